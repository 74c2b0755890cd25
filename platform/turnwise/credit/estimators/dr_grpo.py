"""Dr. GRPO: a trajectory's score minus its group's mean, without a division (algorithms.md 3.2; arXiv 2503.20783).

By channel c with weight w_c:  A_i = sum_c w_c (S_ic - mean_g S_c), every turn of the trajectory gets it. The mean
includes S_i itself, so the expected gradient is (n - 1)/n of the true one, the same for every turn: `rloo` shrunk.
Its other half is the loss, a sum over tokens divided by a constant: the objective's
`aggregate: seq_mean_token_sum_norm`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, centred, group_codes
from turnwise.credit.returns import trajectory_scores
from turnwise.credit.spread import to_turns


@dataclass
class DrGrpoConfig:
    """Options of `dr_grpo`."""

    singleton: str = key(
        "zero", "a group with one scored trajectory: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class DrGrpo:
    """The estimator `dr_grpo`."""

    Config = DrGrpoConfig
    needs_group = True

    def __init__(self, config: DrGrpoConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a masked score is in no mean, and its trajectory is not trained on."""
        codes = group_codes(rewards.group)
        total, usable = np.zeros(len(codes)), np.ones(len(codes), dtype=bool)
        for channel in rewards.channels:
            scores, known = trajectory_scores(rewards, channel)
            deviations, has_others = centred(scores, known, codes)
            total += rewards.weights[channel] * deviations
            usable &= known & (has_others | (self.config.singleton == "raw"))
        return to_turns(total, usable, rewards)
