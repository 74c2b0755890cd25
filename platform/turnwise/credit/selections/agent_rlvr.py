"""Agent-RLVR: which of two attempts at a task is trained on (algorithms.md 4.10; arXiv 2506.11425).

The first attempt has no help. If its unit tests fail, guidance is given (a plan, what the environment said, how to use
it), and a second attempt is made with it: `rollout.guided`. Tests are the only reward, for either attempt. Of the two,
the paper trains on one: the first where it passed, otherwise the guided one. The selection does so.

Ours: first attempts that failed are not in the loss, but stay in the baseline of the first ones; guided attempts have a
baseline of their own (`credit.split`). What leaves the loss depends on how an episode went, so the step of first
attempts is no policy gradient: it praises successes and blames nothing. Without the selection it is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from turnwise.config.schema import key
from turnwise.credit import SelectionSettings
from turnwise.credit.verdicts import check_channel, verdicts
from turnwise.records import Group


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


@dataclass
class AgentRlvrConfig:
    """Options of `agent_rlvr`."""

    outcome: str = key("outcome", "the channel whose sum says which first attempts passed")
    threshold: float = key(0.5, "passed if that sum exceeds it")


class AgentRlvr:
    """The selection `agent_rlvr`."""

    Config = AgentRlvrConfig

    def __init__(self, config: AgentRlvrConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def check(self, field: str, settings: SelectionSettings) -> None:
        """Raise UserError for a channel without scores."""
        check_channel(f"{field}.outcome", self.config.outcome, settings)

    def select(self, group: Group, weights: Mapping[str, float]) -> Group | None:
        """Return the group with its failed first attempts left to the statistics; an unknown outcome counts as failed.

        A guided attempt stands for the first one before it, which had failed.
        """
        right = verdicts(group, self.config.outcome, self.config.threshold)
        members = group.trained_now
        verdict = [None if right[m.index] is None else float(bool(right[m.index])) for m in members]
        first = [0.0 if m.is_guided else value for m, value in zip(members, verdict, strict=True)]
        guided = [value if m.is_guided else None for m, value in zip(members, verdict, strict=True)]
        chosen = [members[attempt.task].index for attempt in attempts_to_train(first, guided)]
        return replace(group, trained=tuple(chosen)) if chosen else None


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
