"""The verdict on an agent's changes: tests that it never saw, in a sandbox that it never touched.

A grading opens a fresh sandbox (of the tier `bubblewrap`, a user drawn anew each time), puts the repository there with
the changes from the allow-list (`changes.py`) and the trusted tests, runs the tests that decide, and ends it. What was
expected is compared here. Four signs say that something meddled: changes that no honest solution makes, a test run
that shows it (`runner.py`), a test that must fail and does not (`canaries.py`), and tests that pass where a probe
(`probes.py`) disagrees. Then there is no outcome at all: neither 0 nor 1 (promise P4 and law 2).

`Verdict.outcome` is 1 exactly if every test passed: one that is skipped, expected to fail or missing has not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from turnwise.sandbox import FileRefused, Sandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.source import open_here
from turnwise_envs.swe.archive import pack
from turnwise_envs.swe.canaries import plant
from turnwise_envs.swe.changes import Edits, apply, verify
from turnwise_envs.swe.logged import places_of, program_of, run_logged
from turnwise_envs.swe.probes import failed_probes
from turnwise_envs.swe.repository import Case, TaskError
from turnwise_envs.swe.runner import Outcome, TestRun, run_tests
from turnwise_envs.swe.testkit import kit_folder

Result = TypeVar("Result")

MUST_FAIL = (Outcome.FAILED, Outcome.ERROR, Outcome.MISSING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a grading found."""

    outcome: float | None  # 1: every test passed; 0: not every; None: something meddled with it
    tests: Mapping[str, bool]  # whether each test passed; all of them, in the task's order
    tampering: tuple[str, ...] = ()  # signs of it, in words; empty exactly if there is an outcome
    left: tuple[str, ...] = ()  # changed files that were not graded
    run: TestRun | None = None
    num_canaries: int = 0
    tier: str = ""


def with_kit(policy: SandboxPolicy) -> SandboxPolicy:
    """Return a policy that shows the folder of pytest."""
    kit = kit_folder()
    return policy if kit in policy.read_only else replace(policy, read_only=[*policy.read_only, kit])


async def grade(
    case: Case,
    edits: Edits,
    policy: SandboxPolicy,
    *,
    deadline_s: float = 60.0,
    test_s: float | None = None,
    rng: random.Random | None = None,
    field: str = "sandbox",
) -> Verdict:
    """Return the verdict on changes of a case's workspace. SandboxLost if the sandbox goes without the tests' doing.

    `deadline_s`: seconds for all tests, unless the task has its own; `test_s`: for one.
    `rng`: draws what the agent must not know; None: anew.
    """
    verified = verify(case, edits)
    trusted = {path: data for path, data in case.trusted.items() if case.is_test(path)}
    program = program_of(case.task)
    wanted = case.task.tests if program is None else places_of(case, program)
    planted = plant(trusted, wanted, rng or random.Random())
    files = {path: data for path, data in apply(case.trusted, verified.taken).items() if not case.is_test(path)}
    limits: dict[str, Any] = {"deadline_s": _recipe_s(case) or deadline_s, "test_s": test_s}
    box = await open_here(with_kit(case.within(policy)), field)
    try:
        wrong = await _probed(box, case, files, deadline_s)
        await _fill(box, case, {**files, **trusted, **planted.files})
        if program is not None:
            run = await run_logged(box, case, program, planted.ids, deadline_s=limits["deadline_s"])
        else:
            conftest = case.task.recipe.conftest if case.task.recipe is not None else ()
            ids = _shuffled([*case.task.tests, *planted.ids], planted.ids)
            run = await run_tests(box, ids, conftest=conftest, **_where(case), **limits)
    finally:
        await box.close()
    verdict = _verdict(case, run, planted.ids, wrong, verified.suspicions)
    return replace(verdict, left=verified.left, tier=box.tier.value)


def grade_blocking(case: Case, edits: Edits, policy: SandboxPolicy, **options: Any) -> Verdict:
    """Return the verdict, for code that does not await; as `grade`."""
    return blocking(grade(case, edits, policy, **options))


def blocking(work: Coroutine[Any, Any, Result]) -> Result:
    """Return a coroutine's result, whether or not an event loop runs in this thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="swe") as apart:
        return apart.submit(asyncio.run, work).result()


def _verdict(
    case: Case, run: TestRun, canaries: Sequence[str], wrong: Sequence[int], suspicions: Sequence[str]
) -> Verdict:
    tests = {name: run.passed(name) for name in case.task.tests}
    alive = [name for name in canaries if run.outcomes.get(name) not in MUST_FAIL]
    signs = [*suspicions, *run.oddities]
    signs += [f"{len(alive)} of {len(canaries)} tests that must fail did not"] if alive else []
    signs += [f"all tests passed, but {len(wrong)} calls gave wrong values"] if wrong and all(tests.values()) else []
    outcome = None if signs else float(all(tests.values()) and not wrong)
    return Verdict(
        outcome=outcome, tests=tests, tampering=tuple(dict.fromkeys(signs)), run=run, num_canaries=len(canaries)
    )


async def _probed(box: Sandbox, case: Case, files: Mapping[str, bytes], deadline_s: float) -> list[int]:
    """Return the probes that fail; they come before any test is in the sandbox."""
    recipe = case.task.recipe
    if recipe is None or not recipe.probes:
        return []
    await _fill(box, case, files)
    return await failed_probes(box, recipe.probes, deadline_s=deadline_s, **_where(case))


async def _fill(box: Sandbox, case: Case, files: Mapping[str, bytes]) -> None:
    """Make the workspace the repository with these files and nothing else; TaskError if it does not fit."""
    try:
        await box.restore(pack(files, case.executable, folder=case.folder, keep=lambda _: True))
    except FileRefused as error:
        raise TaskError(
            f"task {case.task.instance_id}: the repository does not fit into its sandbox ({error})"
        ) from error


def _where(case: Case) -> dict[str, Any]:
    """Return where a case's code lies in a sandbox, and what runs it."""
    root = case.task.recipe.root if case.task.recipe is not None else "."
    return {"kit": kit_folder(), "root": case.folder, "imports": [root], "own_python": case.python}


def _shuffled(ids: Sequence[str], canaries: Sequence[str]) -> list[str]:
    """Return tests in an order that does not tell which of them are canaries."""
    return sorted(ids) if canaries else list(ids)


def _recipe_s(case: Case) -> float | None:
    return case.task.recipe.timeout_s if case.task.recipe is not None else None
