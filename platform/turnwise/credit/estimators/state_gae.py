"""State GAE: generalised advantage estimation over turns, with values counted instead of learnt.

GAE (arXiv 1506.02438; over turns: algorithms.md 3.8) needs a critic. Where an environment names its states
(`state_key`), the group itself holds one: with G_jm the return of trajectory j from turn m on, by channel,

    V_i(s) = mean of G_jm over all j != i in the group and all turns m with state_jm = s
    delta_ik = r_ik + gamma V_i(s_i,k+1) - V_i(s_ik),    A_ik = delta_ik + gamma lam A_i,k+1

behind the end V and A are 0, and the whole-trajectory score is part of the last turn's reward. A state that no other
trajectory saw, or that has no key, has the baseline of `turn_loo`. With lam = 1 it is unbiased for any turn counts,
since V_i does not depend on i's actions; without keys it then is `turn_loo`. With lam < 1 the chance of later turns no
longer reaches earlier ones, at the price of V's error: for long episodes where states come again (mazes, games).
GiGPO (3.6) groups by the same keys, but keeps the whole later return in each advantage and i in its own baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, mean_of_others
from turnwise.credit.gae import gae
from turnwise.credit.returns import rewards_with_outcome, turn_returns
from turnwise.credit.states import mean_elsewhere, state_codes


@dataclass
class StateGaeConfig:
    """Options of `state_gae`."""

    gamma: float = key(1.0, "discount a turn", at_least=0, at_most=1)
    lam: float = key(
        0.95, "trace decay: 1 keeps all later rewards, 0 only the next state's value", at_least=0, at_most=1
    )
    singleton: str = key(
        "zero", "a turn with no other return to compare: zero leaves it out, raw takes it", one_of=SINGLETON
    )


class StateGae:
    """The estimator `state_gae`."""

    Config = StateGaeConfig
    needs_group = True

    def __init__(self, config: StateGaeConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; what is masked is in no value, and turns before it are not trained on."""
        groups, exists = group_codes(rewards.group), rewards.turn_exists
        states = state_codes(groups, rewards.state_keys, exists)
        total, usable = np.zeros(exists.shape), exists
        for channel in rewards.channels:
            returns, known = turn_returns(rewards, channel, self.config.gamma)
            baseline, has_others = mean_of_others(returns, known, groups)
            values, is_seen = mean_elsewhere(returns, known & exists, states)
            values = np.where(exists, np.where(is_seen, values, baseline), 0.0)
            immediate, _ = rewards_with_outcome(rewards, channel)
            has_baseline = is_seen | has_others
            traced = gae(immediate, values, exists, self.config.gamma, self.config.lam)
            advantages = np.where(has_baseline, traced, returns)
            total += rewards.weights[channel] * advantages
            usable = usable & known & (has_baseline | (self.config.singleton == "raw"))
        return TurnAdvantages(values=np.where(usable, total, 0.0), mask=usable)
