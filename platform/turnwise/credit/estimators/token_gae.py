"""Token GAE: PPO's generalised advantage estimation over the tokens of many turns (algorithms.md 3.5).

With r_t the weighted sum of all channels' rewards, each turn's on its last action token, V_t the value of the token's
turn, and t + 1 the next action token, in whatever turn:

    delta_t = r_t + gamma V_(t+1) - V_t,    A_t = delta_t + gamma lam A_(t+1)

then whitened over the action tokens of the batch. Observation tokens are passed over with neither value nor discount.
The platform has no critic: values are scores of turns on a channel of weight 0 (`credit.values`), constant within the
turn. gamma and lam act by token: below 1 they fade rewards within a few hundred tokens; use `bi_level_gae` or
`turn_gae` then. With gamma = lam = 1 it is the return minus the turn's value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.gae import gae
from turnwise.credit.tokens import TokenLayout
from turnwise.credit.values import rewards_and_values
from turnwise.credit.whiten import whiten


@dataclass
class TokenGaeConfig:
    """Options of `token_gae`."""

    values: str = key("value", "channel that holds each turn's value, from a scorer that estimates it")
    gamma: float = key(1.0, "discount an action token", at_least=0, at_most=1)
    lam: float = key(1.0, "trace decay an action token: 1 keeps all later rewards", at_least=0, at_most=1)
    whiten: bool = key(True, "mean 0 and standard deviation 1 over the batch's action tokens")


class TokenGae:
    """The estimator `token_gae`."""

    Config = TokenGaeConfig
    needs_group = False
    value_options = ("values",)

    def __init__(self, config: TokenGaeConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return the advantages of turns and tokens; what a masked reward or value hides is not trained on."""
        layout, config = TokenLayout.of(rewards), self.config
        immediate, values, usable = rewards_and_values(rewards, config.values)
        placed, is_token = layout.at_ends(immediate), layout.turn_id >= 0
        tokens = gae(placed, layout.spread(values), is_token, config.gamma, config.lam)
        tokens = whiten(tokens, layout.spread(usable)) if config.whiten else tokens
        turns = np.where(usable, layout.means(tokens), 0.0)
        return TurnAdvantages(values=turns, mask=usable, tokens=layout.split(tokens))
