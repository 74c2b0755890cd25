"""REINFORCE++: token returns, whitened over all tokens of the batch (algorithms.md 3.4; arXiv 2501.03262).

With r_t the weighted sum of all channels' rewards, each turn's on its last action token, and t + 1 the next action
token, in whatever turn:

    G_t = r_t + gamma G_(t+1),    A_t = (G_t - mean) / sqrt(var + 1e-8)

over the action tokens of the batch. Returns are carried over observation tokens without a discount. The released code
starts anew at each observation, so that with an outcome alone all turns but the last get nothing; this is not that.
There is no group: the batch's mean is the baseline, and every trajectory weighs by its tokens. It includes the token
itself and mixes tasks of different difficulty. With gamma < 1 the tokens of a turn differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.returns import weighted_returns, weighted_rewards
from turnwise.credit.tokens import TokenLayout, discounted_returns
from turnwise.credit.whiten import whiten


@dataclass
class ReinforcePpConfig:
    """Options of `reinforce_pp`."""

    gamma: float = key(1.0, "discount an action token", at_least=0, at_most=1)


class ReinforcePp:
    """The estimator `reinforce_pp`."""

    Config = ReinforcePpConfig
    needs_group = False

    def __init__(self, config: ReinforcePpConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return the advantages of turns and tokens; unknown returns are in no statistic and not trained on."""
        layout, gamma = TokenLayout.of(rewards), self.config.gamma
        immediate, _ = weighted_rewards(rewards)
        _, known = weighted_returns(rewards, gamma)
        usable = known & rewards.turn_exists
        returns = discounted_returns(layout.at_ends(immediate), layout.turn_id >= 0, gamma)
        advantages = whiten(returns, layout.spread(usable))
        values = np.where(usable, layout.means(advantages), 0.0)
        return TurnAdvantages(values=values, mask=usable, tokens=layout.split(advantages) if gamma < 1 else None)
