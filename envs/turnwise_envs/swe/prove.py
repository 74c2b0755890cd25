"""Proves tasks: the gold patch must pass every test, doing nothing must fail those and only those that the bug fails.

It is the grader of the environment that says so, in the real sandbox, of the tasks as they were written to disk.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnwise.sandbox import SandboxLost
from turnwise.sandbox.policy import SandboxPolicy
from turnwise_envs.swe.changes import Edits
from turnwise_envs.swe.grade import Verdict, grade
from turnwise_envs.swe.repository import Case, case_of
from turnwise_envs.swe.task import SweTask

AT_ONCE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What the grader says of one task."""

    task: SweTask
    gold: float | None  # outcome of the gold patch
    empty: float | None  # outcome of doing nothing
    is_exact: bool  # doing nothing fails all of FAIL_TO_PASS and nothing else
    signs: tuple[str, ...] = ()  # what was taken for tampering

    @property
    def holds(self) -> bool:
        """Whether it is a task."""
        return self.gold == 1.0 and self.empty == 0.0 and self.is_exact

    def __str__(self) -> str:
        """Say it in one line."""
        others = [] if self.is_exact else ["doing nothing fails other tests than it should"]
        words = [f"gold {_said(self.gold)}", f"empty {_said(self.empty)}", *others, *self.signs]
        return f"{self.task.instance_id}: {', '.join(words)}"


def _said(outcome: float | None) -> str:
    return "flagged" if outcome is None else f"{outcome:g}"


async def prove(
    tasks: Sequence[SweTask], say: Callable[[int], None], policy: SandboxPolicy | None = None
) -> list[Proof]:
    """Return the proof of each task, in order; `say` is called with the number that are done."""
    places = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def one(task: SweTask) -> Proof:
        nonlocal done
        async with places:
            proof = await _proof(task, policy or SandboxPolicy())
        done += 1
        say(done)
        return proof

    return list(await asyncio.gather(*(one(task) for task in tasks)))


async def _proof(task: SweTask, policy: SandboxPolicy) -> Proof:
    case = case_of(task, policy)
    gold = await _graded(case, _edits(case), policy)
    empty = await _graded(case, {}, policy)
    failed = {name for name, passed in empty.tests.items() if not passed}
    signs = tuple(dict.fromkeys([*gold.tampering, *empty.tampering]))
    is_exact = failed == set(task.fail_to_pass)
    return Proof(task=task, gold=gold.outcome, empty=empty.outcome, is_exact=is_exact, signs=signs)


def _edits(case: Case) -> Edits:
    """Return the gold patch as changes of the workspace."""
    changed: dict[str, bytes | None] = {
        path: data for path, data in case.gold.items() if case.workspace.get(path) != data
    }
    return changed | {path: None for path in case.workspace if path not in case.gold}


async def _graded(case: Case, edits: Edits, policy: SandboxPolicy) -> Verdict:
    """Return a verdict; a sandbox that is lost is replaced once."""
    try:
        return await grade(case, edits, policy, rng=random.Random(case.task.instance_id))
    except SandboxLost:
        return await grade(case, edits, policy, rng=random.Random(case.task.instance_id))
