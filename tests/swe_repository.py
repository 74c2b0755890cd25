"""A small repository with a bug, and its task file, for the tests of `turnwise/SWE-v0`; in our own words."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

from turnwise_envs.swe import diffs
from turnwise_envs.swe.canaries import Planted

CLEAN = {
    "README.md": "# Purse\n\nShares costs among friends.\n",
    "purse/__init__.py": 'from purse.share import Debt, owed, shares\n\n__all__ = ["Debt", "owed", "shares"]\n',
    "purse/share.py": '''"""Who pays how much."""


class Debt:
    """What one friend owes."""

    def __init__(self, name, cents):
        self.name = name
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Debt) and (self.name, self.cents) == (other.name, other.cents)


def shares(cents, friends):
    """Return the share of each friend; the first ones pay what is left over."""
    if friends < 1:
        raise ValueError("nobody to share with")
    each, rest = divmod(cents, friends)
    return [each + 1 if place < rest else each for place in range(friends)]


def owed(cents, names):
    """Return a debt for each name."""
    return [Debt(name, share) for name, share in zip(names, shares(cents, len(names)))]
''',
    "tests/test_share.py": """import pytest

from purse import shares


def test_shares_of_an_even_sum():
    assert shares(900, 3) == [300, 300, 300]


def test_shares_with_a_rest():
    assert shares(1000, 3) == [334, 333, 333]
    assert sum(shares(1001, 7)) == 1001


@pytest.mark.parametrize("friends", [2, 5, 6])
def test_shares_differ_by_a_cent(friends):
    found = shares(101, friends)
    assert max(found) - min(found) == 1
    assert sum(found) == 101


def test_shares_with_nobody():
    with pytest.raises(ValueError):
        shares(100, 0)
""",
    "tests/test_owed.py": """import unittest

from purse import Debt, owed


class TestOwed(unittest.TestCase):
    def test_names_are_kept(self):
        self.assertEqual([debt.name for debt in owed(900, ["ann", "bo", "cy"])], ["ann", "bo", "cy"])

    def test_everybody_pays(self):
        self.assertEqual(owed(900, ["ann", "bo"])[1], Debt("bo", 450))
""",
}
GOOD = "    return [each + 1 if place < rest else each for place in range(friends)]\n"
BAD = "    return [each + 1 if place < rest - 1 else each for place in range(friends)]\n"
STATEMENT = "shares(1000, 3) is [333, 333, 333]: a cent is lost. The shares should add up to the sum."
ISSUE = """from purse import shares


def test_nothing_is_lost():
    assert sum(shares(1000, 3)) == 1000
"""
FAIL_TO_PASS = [
    "tests/test_share.py::test_shares_with_a_rest",
    *(f"tests/test_share.py::test_shares_differ_by_a_cent[{friends}]" for friends in (2, 5, 6)),
]
PASS_TO_PASS = [
    "tests/test_share.py::test_shares_of_an_even_sum",
    "tests/test_share.py::test_shares_with_nobody",
    "tests/test_owed.py::TestOwed::test_names_are_kept",
    "tests/test_owed.py::TestOwed::test_everybody_pays",
]
PROBES = [
    {"call": "purse.share:shares", "args": [1000, 3], "expected": [334, 333, 333]},
    {"call": "purse.share:shares", "args": [5, 0], "expected": {"$raises": "ValueError"}},
]


def pack(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, BytesIO(text.encode()))


def as_bytes(files: dict[str, str]) -> dict[str, bytes]:
    return {path: text.encode() for path, text in files.items()}


def bug(clean: dict[str, str] = CLEAN) -> str:
    share = clean["purse/share.py"].replace(GOOD, BAD)
    return diffs.make(as_bytes(clean), as_bytes({**clean, "purse/share.py": share}))


def line(number: int = 0, **recipe: object) -> dict[str, object]:
    """Return a line of a task file; keyword arguments change its object `turnwise`."""
    own = {
        "archive": "repos/purse.tar",
        "bug": bug(),
        "hidden": ["tests/test_share.py"],
        "added": {"test_issue.py": ISSUE},
        "reproduction": ["python3", "-m", "pytest", "-q", "test_issue.py"],
        "functions": [{"path": "purse/share.py", "first_line": 15, "last_line": 20, "name": "shares"}],
        "difficulty": {"num_failing": len(FAIL_TO_PASS)},
        "timeout_s": 30,
    }
    return {
        "instance_id": f"purse-{number}",
        "repo": "turnwise/purse",
        "base_commit": "",
        "problem_statement": STATEMENT,
        "patch": "",
        "test_patch": "",
        "FAIL_TO_PASS": FAIL_TO_PASS,
        "PASS_TO_PASS": PASS_TO_PASS,
        "turnwise": {**own, **recipe},
    }


def write(folder: Path, *lines: dict[str, object], clean: dict[str, str] = CLEAN) -> str:
    """Write an archive and a task file (of one task unless lines are given) and return the file's path."""
    (folder / "repos").mkdir(exist_ok=True)
    pack(folder / "repos" / "purse.tar", clean)
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in (lines or [line()])))
    return str(path)


NO_CANARIES = Planted(files={}, ids=())
