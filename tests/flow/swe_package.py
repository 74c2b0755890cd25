"""A tiny package with tests of its own, as a folder: what `turnwise swe build` is tried on without a network."""

from __future__ import annotations

from pathlib import Path

SHELF = '''"""Things on a shelf."""


def clamp(value, low, high):
    """Return a value within two bounds."""
    if value < low:
        return low
    if value > high:
        return high
    return value


def chunks(items, size=2):
    """Return runs of so many items, the last one maybe shorter."""
    found = []
    start = 0
    while start < len(items):
        found.append(items[start : start + size])
        start += size
    return found


def tally(words, fold=False):
    """Count words, in small letters if they are folded."""
    counts = {}
    for word in words:
        key = word.lower() if fold else word
        counts[key] = counts.get(key, 0) + 1
    return counts


def _gap(left, right):
    return left - right if left > right else right - left


def nearest(numbers, wanted):
    """Return the number that is closest, the first of equals."""
    best = numbers[0]
    for number in numbers[1:]:
        if _gap(number, wanted) < _gap(best, wanted):
            best = number
    return best
'''

TESTS = """import pytest

from oddments.shelf import chunks, clamp, nearest, tally

LETTERS = "abcde"


@pytest.mark.parametrize(("value", "wanted"), [(5, 5), (-3, 0), (12, 10), (0, 0), (10, 10)])
def test_clamp(value, wanted):
    assert clamp(value, 0, 10) == wanted


def test_clamp_of_one_point():
    assert clamp(7, 3, 3) == 3


def test_chunks():
    assert chunks("") == []
    assert chunks(LETTERS) == ["ab", "cd", "e"]
    assert chunks(LETTERS, 5) == ["abcde"]


def test_chunks_of_lists():
    assert chunks([1, 2, 3], 1) == [[1], [2], [3]]


class TestTally:
    words = ["Oak", "oak", "elm"]

    def test_plain(self):
        assert tally(self.words) == {"Oak": 1, "oak": 1, "elm": 1}

    def test_folded(self):
        assert tally(self.words, fold=True) == {"oak": 2, "elm": 1}


def test_nearest():
    assert nearest([1, 5, 9], 6) == 5
    assert nearest([9, 1], 2) == 1


def test_nearest_of_equals():
    assert nearest([4, 6], 5) == 4
"""

VISIBLE = """import oddments


def test_a_visible_one():
    assert oddments.__name__ == "oddments"
"""


def write_package(folder: Path, shelf: str = SHELF, tests: str | None = TESTS, **others: str) -> str:
    """Write the package and return its folder, as `--package` takes it; `others`: further files, `__` for `/`."""
    files = {"oddments/__init__.py": "", "oddments/shelf.py": shelf, "README.md": "Odd things.\n"}
    if tests is not None:
        files |= {"tests/test_shelf.py": tests, "tests/test_visible.py": VISIBLE}
    files |= {name.replace("__", "/"): text for name, text in others.items()}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)
