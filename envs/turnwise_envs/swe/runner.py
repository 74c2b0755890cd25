"""Runs named tests in a sandbox and says what became of each: the second form of a test run that is hard to forge.

pytest comes from a folder of ours (`testkit.py`), the interpreter is isolated, no configuration, conftest.py or plug-in
of the repository's counts, and the import root stands last on `sys.path`. In an image its own pytest runs instead, as
it is set up there: packages and settings of an image are trusted, and those of the repository are not the agent's.
Two processes: `inside/watch.py`, which runs none of the agent's code and cannot be looked into by what does, and its
child with pytest, which reports over a pipe.

Code under test shares a process with pytest, so it can lie about every outcome that it can find: what this module
returns is no verdict. `grade.py` makes one, with tests that must fail among the others. `TestRun.oddities` is not empty
where the run itself shows that something meddled with it.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from turnwise.sandbox import Ran, Sandbox
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.brought import brought_python
from turnwise_envs.swe.testkit import PACKAGES, PROGRAMS

PYTHON = ("python3",)
MAX_IDS = 20_000
SPARE_S = 5.0
"""Seconds beyond the tests' own within which the watching process answers."""

CLEAN_EXIT = 0


class Outcome(StrEnum):
    """What became of a test."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"  # not the test itself: its set-up, its end, or the file that it is in
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    MISSING = "missing"  # it did not run, or not to its end: no such test, out of time, a process that died


@dataclass(frozen=True, kw_only=True, slots=True)
class TestRun:
    """What a run of tests said. Not to be believed where code under test may lie."""

    __test__ = False  # no test class, whatever pytest makes of the name

    outcomes: Mapping[str, Outcome]  # of every test that was asked for
    seconds: Mapping[str, float]  # that each took
    tail: str  # the last of what pytest wrote, for people
    wall_s: float
    is_complete: bool  # the report has its end; tests may be missing in it nevertheless
    timed_out: bool  # a test, or the whole, took too long
    oddities: tuple[str, ...] = ()  # signs that something meddled with the run, in words

    def passed(self, name: str) -> bool:
        """Whether a test ran and passed."""
        return self.outcomes.get(name) is Outcome.PASSED


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A run that is about to be made: what to execute, and how to read the answer."""

    argv: list[str]
    stdin: bytes
    options: dict[str, Any]  # further arguments of `exec`
    ids: tuple[str, ...]
    nonce: str

    def read(self, ran: Ran) -> TestRun:
        """Return what the command said; whatever that is, this raises nothing."""
        try:
            if ran.num_stdout > len(ran.stdout):
                raise ValueError("it is longer than the sandbox's output_kb")
            outcomes, seconds, odd, exits = _checked(json.loads(ran.stdout), self.ids, self.nonce)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return self._without(ran, str(error))
        problems = [*odd, *(_strange(exit_) for exit_ in exits if _strange(exit_))]
        return TestRun(
            outcomes=dict(zip(self.ids, outcomes, strict=True)),
            seconds=dict(zip(self.ids, seconds, strict=True)),
            tail=ran.stderr.decode(errors="replace"),
            wall_s=ran.seconds,
            is_complete=bool(exits) and all(is_complete for _, is_complete, _ in exits),
            timed_out=any(was_late for _, _, was_late in exits),
            oddities=tuple(problems),
        )

    def _without(self, ran: Ran, why: str) -> TestRun:
        """Return a run without a report: it was out of time or killed, or else ended as if all were well."""
        was_killed = ran.code is None or ran.code < 0
        return TestRun(
            outcomes=dict.fromkeys(self.ids, Outcome.MISSING),
            seconds=dict.fromkeys(self.ids, 0.0),
            tail=ran.stderr.decode(errors="replace"),
            wall_s=ran.seconds,
            is_complete=False,
            timed_out=ran.timed_out,
            oddities=() if was_killed else (f"no report of the tests ({why[:100]})",),
        )


def request(
    ids: Sequence[str],
    *,
    kit: str,
    root: str = ".",
    imports: Sequence[str] = (".",),
    conftest: Sequence[str] = (),
    deadline_s: float = 60.0,
    test_s: float | None = None,
    own_python: str = "",
) -> Request:
    """Return a run of tests, for `exec`; ValueError for too many tests or a name that is none of pytest's.

    `ids`: as pytest names tests, from `root` on. `kit`: the folder of `kit_folder()`, which the sandbox's policy
    shows (`read_only`). `root`: the repository's folder in the sandbox. `imports`: folders in it for `sys.path`.
    `conftest`: files in it that are loaded as plug-ins. `own_python`: the interpreter of an image that has the
    repository's packages. `deadline_s`: seconds for all; `test_s`: for one test, or for the collection of one file; a
    file that is beyond that is given up, and the others get a new process.
    """
    ids = tuple(dict.fromkeys(ids))
    bad = next((name for name in ids if ".py" not in name.split("::")[0] or "\0" in name), None)
    if bad is not None or len(ids) > MAX_IDS:
        raise ValueError(f"{bad!r} is no name of a test of pytest's" if bad is not None else f"{len(ids)} tests")
    nonce = secrets.token_hex(16)
    told: dict[str, Any] = {
        "ids": ids,
        "packages": f"{kit}/{PACKAGES}",
        "root": ".",
        "own_python": own_python,
        "imports": list(imports),
        "nonce": nonce,
    }
    told |= {"conftest": list(conftest), "deadline_s": deadline_s, "test_s": test_s or deadline_s}
    options = {"cwd": root, "deadline_s": deadline_s + SPARE_S}
    argv = [*(brought_python() if own_python else PYTHON), "-I", "-S", "-B", f"{kit}/{PROGRAMS}/watch.py"]
    return Request(argv=argv, stdin=json.dumps(told).encode(), options=options, ids=ids, nonce=nonce)


async def run_tests(box: Sandbox, ids: Sequence[str], *, kit: str, **options: Any) -> TestRun:
    """Run tests in a sandbox; options as `request`. `SandboxLost` as from `exec`, nothing else of the sandbox's."""
    if not ids:
        return _nothing()
    wanted = request(ids, kit=kit, **options)
    return wanted.read(await box.exec(wanted.argv, stdin=wanted.stdin, **wanted.options))


def run_tests_blocking(box: BlockingSandbox, ids: Sequence[str], *, kit: str, **options: Any) -> TestRun:
    """Run tests in a sandbox of code that does not await; as `run_tests`."""
    if not ids:
        return _nothing()
    wanted = request(ids, kit=kit, **options)
    return wanted.read(box.exec(wanted.argv, stdin=wanted.stdin, **wanted.options))


def _nothing() -> TestRun:
    return TestRun(outcomes={}, seconds={}, tail="", wall_s=0.0, is_complete=True, timed_out=False)


Exit = tuple[int, bool, bool]
"""Of a process of pytest: its exit status, whether its report has an end, whether it was out of time."""


def _checked(answer: Any, ids: Sequence[str], nonce: str) -> tuple[list[Outcome], list[float], list[str], list[Exit]]:
    """Return an answer's parts; ValueError, KeyError or TypeError for one that is none."""
    if not isinstance(answer, dict) or answer["nonce"] != nonce:
        raise ValueError("it lacks the nonce")
    outcomes, seconds = [Outcome(word) for word in answer["outcomes"]], [float(value) for value in answer["seconds"]]
    if not len(outcomes) == len(seconds) == len(ids) or not all(map(math.isfinite, seconds)):
        raise ValueError("it is not of the tests that were asked for")
    exits = [(int(status), bool(whole), bool(late)) for status, whole, late in answer["exits"]]
    return outcomes, seconds, [str(text)[:200] for text in answer["odd"]][:16], exits


def _strange(exit_: Exit) -> str:
    """Return what is strange about how pytest's process ended; killed ones and those out of time are not."""
    status, is_complete, was_late = exit_
    if is_complete:
        return "" if status == CLEAN_EXIT else ("" if status < 0 else f"exit status {status} after its report")
    return "" if was_late or status < 0 else f"pytest's process ended with exit status {status} before its report did"
