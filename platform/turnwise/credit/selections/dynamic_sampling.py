"""Dynamic sampling: groups whose scores do not differ are left out, and others are played until a batch is full.

DAPO (arXiv 2503.14476; algorithms.md 3.10). A group is kept where

    max |m_i - mean(m)| > 0,    m_i the weighted sum of the trajectory's channels, or one channel, before any fusion

over the members whose m is known. The released code plays whole batches and trims the surplus; here a group that is
left out is replaced by one, so that nothing is played in vain and the order of tasks stays that of the numbers.

What is left out decides what the policy gradient is of: groups are weighted by how often they disagree. Groups with
equal sums whose turns were rewarded differently would teach a turn-level estimator something; they go too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import SelectionSettings
from turnwise.credit.baseline import SINGLETON
from turnwise.credit.returns import weighted_scores
from turnwise.credit.rewards import turn_rewards
from turnwise.credit.verdicts import check_channel
from turnwise.errors import UserError
from turnwise.records import Group

SMALLEST_SPREAD = 1e-9
"""Deviations from the mean up to this are rounding."""


@dataclass
class DynamicSamplingConfig:
    """Options of `dynamic_sampling`."""

    channel: str | None = key(None, "the channel whose sums must differ; null: the weighted sum of all")
    singleton: str = key("zero", "a group with one known score: zero leaves it out, raw keeps it", one_of=SINGLETON)


class DynamicSampling:
    """The selection `dynamic_sampling`."""

    Config = DynamicSamplingConfig

    def __init__(self, config: DynamicSamplingConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def check(self, field: str, settings: SelectionSettings) -> None:
        """Raise UserError for a channel without scores, or groups of one."""
        if self.config.channel is not None:
            check_channel(f"{field}.channel", self.config.channel, settings)
        elif settings.made >= {name for name, weight in settings.channels.items() if weight != 0.0}:
            problem = "fusions make every channel with a weight, and selections come before fusions"
            raise UserError(f"{field}.channel", "null", problem, "name a channel that a scorer gives")
        if settings.group_size < 2 and self.config.singleton == "zero":
            problem = f"{field} compares the episodes of a group, so it would leave out every group of one"
            raise UserError("rollout.group_size", settings.group_size, problem, "use at least 2")

    def select(self, group: Group, weights: Mapping[str, float]) -> Group | None:
        """Return the group as it is, or None; one without any known score is left out."""
        used = weights if self.config.channel is None else {self.config.channel: 1.0}
        scores, known = weighted_scores(turn_rewards([group], used, used))
        if known.sum() <= 1:
            return group if known.any() and self.config.singleton == "raw" else None
        return group if np.ptp(scores[known]) > SMALLEST_SPREAD else None
