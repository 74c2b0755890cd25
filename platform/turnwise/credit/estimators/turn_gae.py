"""Turn GAE: generalised advantage estimation with one value and one advantage a turn (algorithms.md 3.8 b-d).

With r_k the weighted sum of all channels' rewards of turn k, and V_k its value:

    delta_k = r_k + gamma V_(k+1) - V_k,    A_k = delta_k + gamma lam A_(k+1)

Four published methods are this recursion and differ in two things: which token's value is the turn's (the last:
VAGEN's turn-wise and no-concat GAE; the first: its default no-concat GAE and VPR's turn-level PPO), and how it is
normalised:

- `turns`: whitened, each turn one vote (VAGEN, turn-wise)
- `tokens`: whitened, each turn as many votes as it has action tokens (VAGEN, no-concat)
- `population`: (A - mean) / (population's standard deviation + 1e-8), each turn one vote (VPR's turn-level PPO)
- `none`: as it is

The platform has no critic: values are scores of turns on a channel of weight 0 (`credit.values`), and the scorer has
chosen the token. `state_gae` counts its values from other trajectories instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.gae import gae
from turnwise.credit.values import rewards_and_values
from turnwise.credit.whiten import standardise, whiten

NORMALISE = ("turns", "tokens", "population", "none")


@dataclass
class TurnGaeConfig:
    """Options of `turn_gae`."""

    values: str = key("value", "channel that holds each turn's value, from a scorer that estimates it")
    gamma: float = key(0.95, "discount a turn", at_least=0, at_most=1)
    lam: float = key(0.9, "trace decay a turn: 1 keeps all later rewards", at_least=0, at_most=1)
    normalise: str = key("turns", "over the batch: whitened by turns or tokens, population, or none", one_of=NORMALISE)


class TurnGae:
    """The estimator `turn_gae`."""

    Config = TurnGaeConfig
    needs_group = False
    value_options = ("values",)

    def __init__(self, config: TurnGaeConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; what a masked reward or value hides is in no statistic and not trained on."""
        immediate, values, usable = rewards_and_values(rewards, self.config.values)
        advantages = gae(immediate, values, rewards.turn_exists, self.config.gamma, self.config.lam)
        advantages = normalise(advantages, usable, rewards.num_tokens, self.config.normalise)
        return TurnAdvantages(values=np.where(usable, advantages, 0.0), mask=usable)


def normalise(advantages: Array, usable: Mask, num_tokens: np.ndarray, how: str) -> Array:
    """Return the advantages of turns [N, K] normalised over the usable ones, `how` being one of `NORMALISE`."""
    if how == "none":
        return advantages
    if how == "population":
        return standardise(advantages, usable)
    return whiten(advantages, usable, num_tokens.astype(np.float64) if how == "tokens" else None)
