"""Contrastive reward (arXiv 2403.07708): a score minus what baseline answers to the same task get from the same judge.

    R_i = r_i - mean over the group of the reference channel's sums

The reference channel gives, with any of the group's trajectories, the score of a baseline answer; the mean is over the
known ones, and is subtracted from the score of the whole trajectory. A group without any known reference is masked.

An estimator that centres each group (`rloo`, `turn_loo`, `grpo`) takes a constant of a group out again: there this
changes nothing. It matters to gates and bounds that follow, to metrics, and to estimators with one baseline for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.baseline import group_codes, group_sum
from turnwise.credit.channel import channel_of, total, with_channel


@dataclass
class ContrastConfig:
    """Options of `contrast`."""

    channel: str = key("outcome", "the channel that is changed")
    reference: str = key("reference", "the channel of baseline answers' scores; it goes into the other")


class Contrast:
    """The fusion `contrast`."""

    Config = ContrastConfig
    channel_options = ("channel", "reference")
    folded_options = ("reference",)

    def __init__(self, config: ContrastConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the group's mean reference subtracted."""
        reference, known = total(rewards, self.config.reference)
        amounts, counts = group_sum(reference, known, group_codes(rewards.group))
        channel = channel_of(rewards, self.config.channel)
        contrasted = channel.plus_outcome(-amounts / np.maximum(counts, 1.0), counts > 0.5)
        return with_channel(rewards, self.config.channel, contrasted)
