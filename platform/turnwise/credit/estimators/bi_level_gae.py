"""Bi-level GAE: over turns, then within each turn over its tokens (algorithms.md 3.8 a; VAGEN, arXiv 2510.16907).

With r_k the weighted sum of all channels' rewards of turn k, and V_k the value of its last token:

    turns:   delta_k = r_k + gamma_turn V_(k+1) - V_k,    A_k = delta_k + gamma_turn lam A_(k+1)
    tokens:  GAE with (gamma, lam) within the turn alone, whose last token gets the reward A_k + V_k

then whitened over the action tokens of the batch. Discounts between turns and within them are apart, so that long
turns do not fade what comes later. The platform has no critic: values are scores of turns on a channel of weight 0
(`credit.values`), constant within the turn; with gamma = lam = 1 all tokens of a turn then have A_k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.gae import gae, within_turns
from turnwise.credit.tokens import TokenLayout
from turnwise.credit.values import rewards_and_values
from turnwise.credit.whiten import whiten


@dataclass
class BiLevelGaeConfig:
    """Options of `bi_level_gae`."""

    values: str = key("value", "channel that holds each turn's value, from a scorer that estimates it")
    gamma_turn: float = key(0.95, "discount a turn", at_least=0, at_most=1)
    gamma: float = key(1.0, "discount an action token, within its turn", at_least=0, at_most=1)
    lam: float = key(1.0, "trace decay, a turn and a token: 1 keeps all later rewards", at_least=0, at_most=1)
    whiten: bool = key(True, "mean 0 and standard deviation 1 over the batch's action tokens")


class BiLevelGae:
    """The estimator `bi_level_gae`."""

    Config = BiLevelGaeConfig
    needs_group = False
    value_options = ("values",)

    def __init__(self, config: BiLevelGaeConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return the advantages of turns and tokens; what a masked reward or value hides is not trained on."""
        layout, config = TokenLayout.of(rewards), self.config
        immediate, values, usable = rewards_and_values(rewards, config.values)
        turns = gae(immediate, values, rewards.turn_exists, config.gamma_turn, config.lam)
        tokens = within_turns(turns, layout.spread(values), layout.turn_id, config.gamma, config.lam)
        tokens = whiten(tokens, layout.spread(usable)) if config.whiten else tokens
        turns = np.where(usable, layout.means(tokens), 0.0)
        return TurnAdvantages(values=turns, mask=usable, tokens=layout.split(tokens))
