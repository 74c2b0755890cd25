"""Turn-wise GRPO: a turn's return, normalised over the members of its group that got there (algorithms.md 3.7).

With G_ik the weighted sum of all channels' returns of trajectory i from turn k on, and n_k members that have a turn k:

    A_ik = (G_ik - mean_gk) / (std_gk + eps)

Kept for comparison: it is biased. The mean includes G_ik itself, which shrinks the gradient of turn k by (n_k - 1)/n_k,
and n_k falls with k as episodes end, so late turns are held back most; the standard deviation adds to it. `trloo` and
`turn_loo` are the corrected forms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, normalised
from turnwise.credit.returns import weighted_returns


@dataclass
class GrpoTurnConfig:
    """Options of `grpo_turn`."""

    gamma: float = key(1.0, "discount a turn", at_least=0, at_most=1)
    eps: float = key(1e-6, "added to the standard deviation", above=0)
    singleton: str = key(
        "zero", "a turn that no other trajectory reached: zero leaves it out, raw takes its return", one_of=SINGLETON
    )


class GrpoTurn:
    """The estimator `grpo_turn`."""

    Config = GrpoTurnConfig
    needs_group = True

    def __init__(self, config: GrpoTurnConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; an unknown return is in no statistic, and its turn is not trained on."""
        returns, known = weighted_returns(rewards, self.config.gamma)
        counted = known & rewards.turn_exists
        advantages, has_others = normalised(returns, counted, group_codes(rewards.group), self.config.eps)
        usable = counted & (has_others | (self.config.singleton == "raw"))
        return TurnAdvantages(values=np.where(usable, advantages, 0.0), mask=usable)
