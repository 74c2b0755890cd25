"""Tests that a repository's own program runs, read from its log: those of Django and SymPy, as SWE-bench names them.

Where a task names its tests in pytest's way, `runner.py` runs them. These two repositories have programs of their own,
whose log is all that is known of a run, and the code under test can write into it: tests that must fail are among the
others as ever, but that is the only sign. The files of the task's `test_patch` are run, as SWE-bench's harness does.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from turnwise.sandbox import Sandbox
from turnwise_envs.swe import diffs
from turnwise_envs.swe.repository import Case
from turnwise_envs.swe.runner import SPARE_S, Outcome, TestRun
from turnwise_envs.swe.task import SweTask

JOINED = 'PATH="$0:$PATH" exec "$@" 2>&1'
VARIABLES = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8"}
MAX_TAIL = 16384

OUTCOMES = {
    "ok": Outcome.PASSED,
    "FAIL": Outcome.FAILED,
    "F": Outcome.FAILED,
    "ERROR": Outcome.ERROR,
    "E": Outcome.ERROR,
    "skipped": Outcome.SKIPPED,
    "s": Outcome.SKIPPED,
    "expected failure": Outcome.XFAILED,
    "f": Outcome.XFAILED,
}
"""By the word in a log; any other is a failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A repository's program for its tests, and the names that it gives them."""

    words: Sequence[str]  # the program and its options, from the repository's root
    target: Callable[[str], str]  # what it is told to run, for a test file
    line: re.Pattern[str]  # of its log: a test's name and what became of it
    place: Callable[[str, Sequence[str]], str | None]  # a test as pytest would name it, of these files
    name: Callable[[str], Sequence[str]]  # how the log may spell a test that pytest would name so


def program_of(task: SweTask) -> Program | None:
    """Return the program for a task's tests; None where they are named in pytest's way, or none is known."""
    is_pytest = all("::" in name for name in task.tests)
    return None if is_pytest or task.archive_path is not None else PROGRAMS.get(task.repo)


def places_of(case: Case, program: Program) -> list[str]:
    """Return the tests that decide as pytest would name them, so far as they are functions."""
    files = test_files(case)
    return [place for name in case.task.tests if (place := program.place(name, files)) is not None]


def test_files(case: Case) -> list[str]:
    """Return the files of tests that are run."""
    return [path for path in diffs.paths(case.task.test_patch) if path.endswith(".py") and path in case.trusted]


async def run_logged(
    box: Sandbox, case: Case, program: Program, canaries: Sequence[str], *, deadline_s: float
) -> TestRun:
    """Run the tests of a case whose files are in the sandbox. `SandboxLost`; a test without a line is missing."""
    words = [case.python, *program.words, *map(program.target, test_files(case))]
    argv = ["/bin/sh", "-c", JOINED, posixpath.dirname(case.python), *words]
    ran = await box.exec(argv, cwd=case.folder, env=VARIABLES, deadline_s=deadline_s + SPARE_S)
    found = outcomes(ran.stdout.decode(errors="replace"), program)
    names = {name: [name] for name in case.task.tests} | {name: list(program.name(name)) for name in canaries}
    known = {name: [found[spelt] for spelt in spellings if spelt in found] for name, spellings in names.items()}
    return TestRun(
        outcomes={name: (seen or [Outcome.MISSING])[0] for name, seen in known.items()},
        seconds=dict.fromkeys(names, 0.0),
        tail=ran.stdout[-MAX_TAIL:].decode(errors="replace"),
        wall_s=ran.seconds,
        is_complete=ran.code is not None and ran.num_stdout == len(ran.stdout),
        timed_out=ran.timed_out,
    )


def outcomes(log: str, program: Program) -> Mapping[str, Outcome]:
    """Return what a log says of each test; of several lines for one, the worst counts."""
    found: dict[str, Outcome] = {}
    for line in program.line.finditer(log):
        name, outcome = line["name"].strip(), OUTCOMES.get(line["outcome"].strip(), Outcome.FAILED)
        if found.get(name, Outcome.PASSED) is Outcome.PASSED:
            found[name] = outcome
    return found


def _module(path: str) -> str:
    return path.removeprefix("tests/").removesuffix(".py").replace("/", ".")


def _place_of_django(name: str, files: Sequence[str]) -> str | None:
    """Read `test_a (app.tests.Case)`, with `.test_a` behind since Python 3.11; other names are of docstrings."""
    match = re.fullmatch(r"(\w+) \(([\w.]+)\)", name)
    if match is None:
        return None
    module, _, case = match[2].removesuffix(f".{match[1]}").rpartition(".")
    path = f"tests/{module.replace('.', '/')}.py"
    return f"{path}::{case}::{match[1]}" if path in files else None


def _name_of_django(place: str) -> list[str]:
    path, *case, name = place.split("::")
    within = ".".join([_module(path), *case])
    return [f"{name} ({within})", f"{name} ({within}.{name})"]


def _place_of_sympy(name: str, files: Sequence[str]) -> str | None:
    """Read a function's name, which is all that there is."""
    return f"{files[0]}::{name}" if len(files) == 1 and name.isidentifier() else None


PROGRAMS: Mapping[str, Program] = {
    "django/django": Program(
        words=("tests/runtests.py", "--verbosity", "2", "--settings=test_sqlite", "--parallel", "1"),
        target=_module,
        line=re.compile(
            r"^(?P<name>[^\n]+?) \.\.\. +(?P<outcome>ok|FAIL|ERROR|skipped|expected failure|unexpected success)\b",
            re.MULTILINE,
        ),
        place=_place_of_django,
        name=_name_of_django,
    ),
    "sympy/sympy": Program(
        words=("bin/test", "-C", "--verbose"),
        target=lambda path: path,
        line=re.compile(r"^(?P<name>test_\w+) (?P<outcome>ok|[A-Za-z])\b", re.MULTILINE),
        place=_place_of_sympy,
        name=lambda place: [place.split("::")[-1]],
    ),
}
"""By repository, as SWE-bench names it."""
