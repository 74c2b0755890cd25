"""RLOO: a trajectory's score minus the mean of the others' (algorithms.md 3.3; arXiv 2402.14740).

By channel c with weight w_c:  A_i = sum_c w_c (S_ic - mean over j != i of S_jc), every turn of the trajectory gets it.
Unbiased for any turn counts: the baseline depends on other trajectories only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, mean_of_others
from turnwise.credit.returns import trajectory_scores
from turnwise.credit.spread import to_turns


@dataclass
class RlooConfig:
    """Options of `rloo`."""

    singleton: str = key(
        "zero", "a trajectory with no other to compare: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class Rloo:
    """The estimator `rloo`."""

    Config = RlooConfig
    needs_group = True

    def __init__(self, config: RlooConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a masked score is in no baseline, and its trajectory is not trained on."""
        codes = group_codes(rewards.group)
        total, usable = np.zeros(len(codes)), np.ones(len(codes), dtype=bool)
        for channel in rewards.channels:
            scores, known = trajectory_scores(rewards, channel)
            baseline, has_others = mean_of_others(scores, known, codes)
            total += rewards.weights[channel] * (scores - baseline)
            usable &= known & (has_others | (self.config.singleton == "raw"))
        return to_turns(total, usable, rewards)
