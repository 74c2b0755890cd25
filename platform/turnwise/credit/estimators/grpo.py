"""GRPO: a trajectory's score, normalised within its group (algorithms.md 3.1; arXiv 2402.03300).

With S_i the weighted sum of all channels' rewards of trajectory i:  A_i = (S_i - mean_g) / (std_g + eps), every turn of
the trajectory gets it. std is the unbiased one. The channels are summed before the normalisation, which is not linear.
Dividing by the standard deviation and the mean that includes S_i itself make it biased; `rloo` and `turn_loo` are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, group_sum
from turnwise.credit.returns import weighted_scores
from turnwise.credit.spread import to_turns


@dataclass
class GrpoConfig:
    """Options of `grpo`."""

    eps: float = key(1e-6, "added to the standard deviation", above=0)
    singleton: str = key(
        "zero", "a group with one scored trajectory: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class Grpo:
    """The estimator `grpo`."""

    Config = GrpoConfig
    needs_group = True

    def __init__(self, config: GrpoConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; trajectories with a masked score leave the statistics and are not trained on."""
        scores, known = weighted_scores(rewards)
        codes = group_codes(rewards.group)
        sums, counts = group_sum(scores, known, codes)
        is_alone = counts < 1.5
        mean = np.where(is_alone, 0.0, sums / np.maximum(counts, 1.0))
        squares, _ = group_sum((scores - mean) ** 2, known, codes)
        std = np.where(is_alone, 1.0, np.sqrt(squares / np.maximum(counts - 1.0, 1.0)))
        usable = known & (~is_alone | (self.config.singleton == "raw"))
        return to_turns((scores - mean) / (std + self.config.eps), usable, rewards)
