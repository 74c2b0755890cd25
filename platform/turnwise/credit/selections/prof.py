"""PROF: of each group the episodes are kept whose process scores agree best with their outcome, right and wrong alike.

Process consistency filter (arXiv 2509.03403, no released code; algorithms.md 4.12). With p_i the mean of a trajectory's
process scores, m of the n members stay, k+ right and k- wrong ones:

    k+ + k- = m, as equal as the group allows;  right: the highest p first;  wrong: the lowest p first

With `sides` right (PROF-Correct) only the right ones are ranked; of the wrong ones the first by index stay, which is
as good as drawing, since episodes of a group differ by chance only. The process score selects and is never added to
the reward: it has no weight in `credit.channels`. Baselines are those of the kept members: the others leave the group.

An odd m gives the right ones one more. A member without a known process score ranks last on its side. One whose outcome
is unknown leaves, as does one that another selection took out of the loss. Not here: the paper's penalty for answers of
one or very many steps, whose size is not published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from turnwise.config.schema import key
from turnwise.credit import SelectionSettings
from turnwise.credit.rewards import ANY_CHANNEL
from turnwise.credit.select import with_members
from turnwise.credit.verdicts import check_channel, verdicts
from turnwise.errors import UserError
from turnwise.records import Group

DIGITS = 9
"""Means are compared after rounding to so many decimals: equal ones are taken in the order of their index."""


@dataclass
class ProfConfig:
    """Options of `prof`."""

    keep: int = key(4, "episodes of a group that stay; less than rollout.group_size", at_least=2)
    process: str = key("process", "the channel of process scores; its weight in credit.channels is 0")
    outcome: str = key("outcome", "the channel whose sum says which episodes are right")
    threshold: float = key(0.5, "right if that sum exceeds it")
    sides: str = key("both", "both, or right: wrong ones stay whatever their process scores", one_of=("both", "right"))


class Prof:
    """The selection `prof`."""

    Config = ProfConfig

    def __init__(self, config: ProfConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def check(self, field: str, settings: SelectionSettings) -> None:
        """Raise UserError for unknown channels, a process channel with a weight, or a `keep` that cannot work."""
        for option in ("process", "outcome"):
            check_channel(f"{field}.{option}", getattr(self.config, option), settings)
        weight = settings.channels[self.config.process]
        if weight != 0.0:
            problem = f"has the weight {weight:g}, and scores that select must not be rewards too"
            raise UserError(f"{field}.process", self.config.process, problem, "set its weight in credit.channels to 0")
        if self.config.keep < settings.min_group:
            problem = f"leaves fewer than the {settings.min_group} members that the estimator compares"
            remedy = f"use at least {settings.min_group}, or a smaller credit.estimator.min_group"
            raise UserError(f"{field}.keep", self.config.keep, problem, remedy)
        if self.config.keep >= settings.group_size:
            problem = f"would keep all of rollout.group_size={settings.group_size} episodes"
            remedy = f"use at most {settings.group_size - 1}, or larger groups"
            raise UserError(f"{field}.keep", self.config.keep, problem, remedy)

    def select(self, group: Group, weights: Mapping[str, float]) -> Group | None:
        """Return the group with `keep` of its members and their scores; with fewer, all that have an outcome."""
        right = verdicts(group, self.config.outcome, self.config.threshold)
        means = process_means(group, self.config.process)
        indices = sorted(member.index for member in group.trained_now)
        sides = [[index for index in indices if right[index] is wanted] for wanted in (True, False)]
        sides[0].sort(key=lambda index: -means[index] if index in means else math.inf)
        if self.config.sides == "both":
            sides[1].sort(key=lambda index: means.get(index, math.inf))
        counts = balanced(len(sides[0]), len(sides[1]), self.config.keep)
        return with_members(group, {*sides[0][: counts[0]], *sides[1][: counts[1]]})


def balanced(num_right: int, num_wrong: int, keep: int) -> tuple[int, int]:
    """Return how many right and wrong ones stay: `keep` together where there are so many, as equal as possible."""
    wrong = min(num_wrong, keep // 2)
    right = min(num_right, keep - wrong)
    return right, min(num_wrong, keep - right)


def process_means(group: Group, channel: str) -> dict[int, float]:
    """Return by `Trajectory.index` the mean of the scores on `channel`; of those that have any and none masked."""
    means = {}
    for member in group.trajectories:
        values = [
            score.value
            for score in group.scores
            if score.trajectory_id == member.trajectory_id
            and (score.channel == channel or (score.channel == ANY_CHANNEL and score.is_masked))
        ]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            means[member.index] = round(sum(known) / len(known), DIGITS)
    return means
