"""Reliability: a judge counts in a group as far as it prefers what turned out right (Trust-GRPO, arXiv 2505.17018).

With m+ and m- the mean of the judge's sums over the group's trajectories whose outcome exceeds the threshold, and over
the others, every score of the judge in the group is multiplied by

    exp(min(0, m+ - m-))

which is 1 unless wrong answers were judged better. In a group of right or of wrong answers only nothing shows whether
the judge can be believed: `undecided` says whether its scores count there (the released code drops them). The means are
over trajectories of which both are known; a masked outcome does not mask the judge's scores. Trust-GRPO anneals the
judge's weight besides: add `anneal`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, TurnRewards
from turnwise.credit.baseline import group_codes, group_sum
from turnwise.credit.channel import channel_of, total, with_channel

UNDECIDED = ("drop", "keep")
"""What the judge's scores are in a group whose outcomes are all right or all wrong: 0, or as given."""


@dataclass
class ReliabilityConfig:
    """Options of `reliability`."""

    channel: str = key("process", "the judge's channel")
    outcome: str = key("outcome", "the channel that tells right from wrong, left as it is")
    threshold: float = key(0.5, "right if the outcome's sum exceeds it")
    undecided: str = key(
        "drop", "the judge's scores where all or none are right: drop makes them 0, keep leaves them", one_of=UNDECIDED
    )


class Reliability:
    """The fusion `reliability`."""

    Config = ReliabilityConfig
    channel_options = ("channel", "outcome")
    needs_group = True

    def __init__(self, config: ReliabilityConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the judge's channel weighted by its reliability in the group."""
        factor = self._reliability(rewards)
        known = np.ones(len(factor), dtype=bool)
        name = self.config.channel
        return with_channel(rewards, name, channel_of(rewards, name).scaled(factor, known))

    def _reliability(self, rewards: TurnRewards) -> Array:
        outcome, outcome_known = total(rewards, self.config.outcome)
        judged, judged_known = total(rewards, self.config.channel)
        codes, known = group_codes(rewards.group), outcome_known & judged_known
        is_right = outcome > self.config.threshold
        right, num_right = group_sum(judged, known & is_right, codes)
        wrong, num_wrong = group_sum(judged, known & ~is_right, codes)
        is_decided = (num_right > 0.5) & (num_wrong > 0.5)
        margin = right / np.maximum(num_right, 1.0) - wrong / np.maximum(num_wrong, 1.0)
        undecided = 1.0 if self.config.undecided == "keep" else 0.0
        return np.where(is_decided, np.exp(np.minimum(margin, 0.0)), undecided)
