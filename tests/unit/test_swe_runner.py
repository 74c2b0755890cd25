import asyncio

import pytest

from turnwise.sandbox import Tier
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_sandbox
from turnwise_envs.swe.runner import Outcome, run_tests, run_tests_blocking
from turnwise_envs.swe.testkit import kit_folder

pytestmark = pytest.mark.skipif(missing(Tier.BUBBLEWRAP) is not None, reason=str(missing(Tier.BUBBLEWRAP)))

EVERY = """
import pytest, unittest, json
from store import add
from beside import VALUE

def test_passes(): assert add(1, 2) == 3
def test_fails(): assert add(1, 2) == 4
def test_skips(): pytest.skip("x")
@pytest.mark.xfail
def test_expected(): assert 0
@pytest.mark.xfail
def test_unexpected(): pass
@pytest.fixture
def broken(): raise ValueError
@pytest.fixture
def breaks():
    yield
    raise ValueError
def test_set_up(broken): pass
def test_ends(breaks): pass
@pytest.mark.parametrize("value", [1, "b c", "é"])
def test_with(value, tmp_path, capsys, monkeypatch):
    print(value)
    assert capsys.readouterr().out and VALUE

class TestUnit(unittest.TestCase):
    def test_one(self): self.assertEqual(add(1, 1), 2)
    def test_parts(self):
        for number in range(3):
            with self.subTest(number=number): self.assertNotEqual(number, 1)
"""
FILES = {
    "src/store/__init__.py": "def add(a, b):\n    return a + b\n",
    "src/json.py": "raise SystemExit('not the one')\n",
    "src/pluggy.py": "raise SystemExit('not the one')\n",
    "conftest.py": "raise SystemExit('not asked for')\n",
    "pytest.ini": "[pytest]\naddopts = --collect-only\n",
    "tests/beside.py": "VALUE = 1\n",
    "tests/test_every.py": EVERY,
    "tests/test_hangs.py": "import time\ndef test_a(): pass\ndef test_b(): time.sleep(100)\ndef test_c(): pass\n",
    "tests/test_imports.py": "import nothing_there\ndef test_a(): pass\n",
    "tests/test_skipped.py": "import pytest\npytest.skip('x', allow_module_level=True)\n",
    "tests/test_last.py": "def test_a(): pass\n",
    "tests/test_dies.py": "import os, signal\ndef test_a(): pass\ndef test_b(): os.kill(os.getpid(), signal.SIGKILL)\n",
    "tests/test_leaves.py": "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\n",
    "tests/sub/conftest.py": "import pytest\n@pytest.fixture\ndef seven(): return 7\n",
    "tests/sub/test_own.py": "def test_a(seven): assert seven == 7\n",
    "pkg/__init__.py": "",
    "pkg/tests/__init__.py": "",
    "pkg/tests/given.py": "GIVEN = 2\n",
    "pkg/tests/test_in.py": "from .given import GIVEN\nfrom pkg.tests import given\ndef test_a(): assert GIVEN == 2\n",
}


@pytest.fixture(scope="module")
def box():
    with BlockingSandbox(SandboxPolicy(read_only=[kit_folder()])) as opened:
        for path, text in FILES.items():
            opened.write(f"repo/{path}", text.encode())
        yield opened


def ran(box, *ids, **options):
    return run_tests_blocking(box, ids, kit=kit_folder(), root="repo", imports=["src"], **options)


def test_every_outcome_is_told_apart(box):
    wanted = {
        "test_passes": "passed", "test_fails": "failed", "test_skips": "skipped", "test_expected": "xfailed",
        "test_unexpected": "failed", "test_set_up": "error", "test_ends": "error", "test_with[1]": "passed",
        "test_with[b c]": "passed", "test_with[\\xe9]": "passed", "TestUnit::test_one": "passed",
        "TestUnit::test_parts": "failed", "test_that_is_not_there": "missing",
    }  # fmt: skip
    names = [f"tests/test_every.py::{name}" for name in wanted]
    run = ran(box, *names, "tests/test_imports.py::test_a", "tests/test_skipped.py::test_a", "tests/gone.py::test_a")
    found = {name.removeprefix("tests/test_every.py::"): str(outcome) for name, outcome in run.outcomes.items()}
    others = ("tests/test_imports.py::test_a", "tests/test_skipped.py::test_a", "tests/gone.py::test_a")
    assert [found.pop(name) for name in others] == ["error", "skipped", "missing"]
    assert found == wanted
    assert (run.is_complete, run.timed_out, run.oddities) == (True, False, ())
    assert "nothing_there" in run.tail
    assert all(0 <= seconds < 5 for seconds in run.seconds.values())


def test_a_file_that_hangs_or_dies_costs_its_own_tests_only(box):
    names = [f"tests/test_{file}.py::test_{test}" for file in ("hangs", "dies", "last") for test in "abc"]
    run = ran(box, *names, test_s=2.0)
    assert {name.removeprefix("tests/test_").replace(".py::test_", " ") for name in names if run.passed(name)} == {
        "hangs a", "dies a", "last a",
    }  # fmt: skip
    assert set(run.outcomes.values()) == {Outcome.PASSED, Outcome.MISSING}
    assert (run.is_complete, run.timed_out, run.oddities) == (False, True, ())


def test_the_whole_is_bounded_too(box):
    run = ran(box, "tests/test_hangs.py::test_b", deadline_s=1.0)
    assert run.timed_out
    assert run.wall_s < 4.0


def test_a_process_that_ends_as_if_all_were_well_is_odd(box):
    run = ran(box, "tests/test_leaves.py::test_a", "tests/test_leaves.py::test_b")
    assert [run.outcomes[name] for name in run.outcomes] == [Outcome.PASSED, Outcome.MISSING]
    assert run.oddities == ("pytest's process ended with exit status 0 before its report did",)


def test_a_conftest_counts_only_where_it_is_named(box):
    name = "tests/sub/test_own.py::test_a"
    assert ran(box, name).outcomes[name] is Outcome.ERROR
    assert ran(box, name, conftest=["tests/sub/conftest.py"]).passed(name)


def test_tests_within_a_package_import_their_neighbours(box):
    name = "pkg/tests/test_in.py::test_a"
    assert run_tests_blocking(box, [name], kit=kit_folder(), root="repo").passed(name)


def test_a_name_that_is_no_test_of_pytests_is_refused_and_none_at_all_is_nothing(box):
    with pytest.raises(ValueError, match="no name of a test"):
        ran(box, "test_x (module.Class)")
    assert ran(box).outcomes == {}


def test_a_report_that_does_not_fit_the_output_is_odd_and_no_outcome():
    async def tried():
        box = await open_sandbox(SandboxPolicy(read_only=[kit_folder()], output_kb=1))
        try:
            await box.write("repo/test_x.py", b"def test_a(): pass\n")
            ids = ["test_x.py::test_a", *(f"test_x.py::test_{number}" for number in range(200))]
            return await run_tests(box, ids, kit=kit_folder(), root="repo")
        finally:
            await box.close()

    run = asyncio.run(tried())
    assert set(run.outcomes.values()) == {Outcome.MISSING}
    assert "output_kb" in run.oddities[0]


def test_the_watching_process_cannot_be_looked_into(box):
    box.write("repo/tests/test_looks.py", LOOKS.encode())
    assert ran(box, "tests/test_looks.py::test_a").passed("tests/test_looks.py::test_a")


LOOKS = """
import os
import pytest

def test_a():
    above = f"/proc/{os.getppid()}"
    for name in ("fd/1", "mem", "environ"):
        with pytest.raises(OSError):
            open(f"{above}/{name}", "rb").read(1)
    with pytest.raises(OSError):
        os.listdir(f"{above}/fd")
"""
