"""REINFORCE++ with a baseline: centred within the group, whitened over the batch (algorithms.md 3.4; arXiv 2501.03262).

With S_i the weighted sum of all channels' rewards of trajectory i, and over all action tokens of the batch:

    A_i = (B_i - mean) / sqrt(var + 1e-8),    B_i = S_i - mean_g

every token of the trajectory gets it. Trajectories weigh by their tokens in mean and variance; the mean of B over
tokens is not 0 where long trajectories score otherwise than short ones, so the second centring moves all groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, centred, group_codes
from turnwise.credit.returns import weighted_scores
from turnwise.credit.spread import to_turns
from turnwise.credit.whiten import whiten


@dataclass
class ReinforcePpBaselineConfig:
    """Options of `reinforce_pp_baseline`."""

    singleton: str = key(
        "zero", "a group with one scored trajectory: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class ReinforcePpBaseline:
    """The estimator `reinforce_pp_baseline`."""

    Config = ReinforcePpBaselineConfig
    needs_group = True

    def __init__(self, config: ReinforcePpBaselineConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; trajectories with a masked score leave the statistics and are not trained on."""
        scores, known = weighted_scores(rewards)
        deviations, has_others = centred(scores, known, group_codes(rewards.group))
        usable = known & (has_others | (self.config.singleton == "raw"))
        num_tokens = rewards.num_tokens.sum(axis=1).astype(np.float64)
        return to_turns(whiten(deviations, usable, num_tokens), usable, rewards)
