"""GRPO: a trajectory's score, normalised within its group (algorithms.md 3.1; arXiv 2402.03300).

With S_i the weighted sum of all channels' rewards of trajectory i:  A_i = (S_i - mean_g) / (std_g + eps), every turn of
the trajectory gets it. std is the unbiased one. The channels are summed before the normalisation, which is not linear.
Dividing by the standard deviation and the mean that includes S_i itself make it biased; `rloo` and `turn_loo` are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, normalised
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
        advantages, has_others = normalised(scores, known, group_codes(rewards.group), self.config.eps)
        usable = known & (has_others | (self.config.singleton == "raw"))
        return to_turns(advantages, usable, rewards)
