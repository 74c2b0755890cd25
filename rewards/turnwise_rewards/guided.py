"""Agent-RLVR: which of two attempts at a task is trained on (algorithms.md 4.10; arXiv 2506.11425).

The first attempt has no help. If its unit tests fail, a teacher writes guidance (a plan, what the environment said, how
to use it), and a second attempt is made with it. Tests are the only reward, for either attempt. For the caller, a
rollout that retries failed tasks:

- guidance is context: its tokens are observations, never a target, and log-probabilities are those under the guided
  prompt;
- `Attempt.group` keeps guided and unguided attempts apart: they succeed at different rates, and a baseline over both
  would praise an attempt for its help. First attempts are trained on only where they succeeded, so alone they have no
  failures to be compared with;
- less guidance over time, or the policy learns to need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to train on."""

    task: int  # index into the tasks given
    is_guided: bool
    reward: float  # 1 if its unit tests pass, otherwise 0

    @property
    def group(self) -> str:
        """Attempts with equal entries may share a baseline, inside one group of rollouts."""
        return "guided" if self.is_guided else "first"


def attempts_to_train(first: Sequence[float | None], guided: Sequence[float | None]) -> list[Attempt]:
    """Return at most one attempt a task: the first where it passed, otherwise the guided one.

    Both hold one entry a task: 1 tests pass, 0 they fail, None no such attempt or its tests could not run. A task whose
    first attempt failed and whose guided one is missing is left out: its failure alone would enter no fair comparison.
    ValueError for lists of different lengths, another reward, or guidance for a task that is not known to have failed.
    """
    if len(first) != len(guided):
        raise ValueError(f"{len(first)} first and {len(guided)} guided attempts: both need one entry a task")
    found = []
    for task, (alone, helped) in enumerate(zip(first, guided, strict=True)):
        _check(task, alone, helped)
        if alone == 1:
            found.append(Attempt(task, False, 1.0))
        elif helped is not None:
            found.append(Attempt(task, True, float(helped)))
    return found


def _check(task: int, alone: float | None, helped: float | None) -> None:
    for name, reward in (("first", alone), ("guided", helped)):
        if reward is not None and reward not in (0, 1):
            raise ValueError(f"task {task}: the {name} attempt has reward {reward}, unit tests give 0 or 1")
    if helped is not None and alone != 0:
        raise ValueError(f"task {task}: guided, but its first attempt has reward {alone}; only failed tasks are guided")
