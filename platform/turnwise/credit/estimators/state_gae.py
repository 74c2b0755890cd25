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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, mean_of_others
from turnwise.credit.returns import rewards_with_outcome, turn_returns


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
            advantages = np.where(has_baseline, self._advantages(immediate, values), returns)
            total += rewards.weights[channel] * advantages
            usable = usable & known & (has_baseline | (self.config.singleton == "raw"))
        return TurnAdvantages(values=np.where(usable, total, 0.0), mask=usable)

    def _advantages(self, immediate: Array, values: Array) -> Array:
        """Return [N, K]; both arrays are 0 behind a trajectory's end."""
        gamma, decay = self.config.gamma, self.config.gamma * self.config.lam
        advantages = immediate - values
        advantages[:, :-1] += gamma * values[:, 1:]
        for k in range(advantages.shape[1] - 2, -1, -1):
            advantages[:, k] += decay * advantages[:, k + 1]
        return advantages


def state_codes(
    groups: NDArray[np.int64], state_keys: Sequence[Sequence[str | None]], exists: Mask
) -> NDArray[np.int64]:
    """Return [N, K] one number a state of a group; -1 where there is no turn or no key."""
    numbers: dict[tuple[int, str], int] = {}
    codes = np.full(exists.shape, -1, dtype=np.int64)
    for i, keys in enumerate(state_keys):
        for k, name in enumerate(keys):
            if name is not None:
                codes[i, k] = numbers.setdefault((int(groups[i]), name), len(numbers))
    return codes


def mean_elsewhere(values: Array, known: Mask, states: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return the mean of known values at the same state in other rows, and where there is one; [N, K] each."""
    sums, counts = sum_elsewhere(values, known, states)
    exists = counts > 0.5
    return np.where(exists, sums / np.maximum(counts, 1.0), 0.0), exists


def sum_elsewhere(values: Array, known: Mask, states: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the sum and the number of known values at the same state in other rows; [N, K] each, 0 without a state."""
    visited = states >= 0
    counted = visited & known
    rows = np.broadcast_to(np.arange(len(states))[:, None], states.shape)
    state = states[visited]
    _, own = np.unique(rows[visited] * (int(state.max(initial=-1)) + 1) + state, return_inverse=True)
    sums, counts = np.zeros(states.shape), np.zeros(states.shape)
    for total, amounts in ((sums, np.where(counted, values, 0.0)), (counts, counted.astype(np.float64))):
        amount = amounts[visited]
        total[visited] = np.bincount(state, amount)[state] - np.bincount(own, amount)[own]
    return sums, counts
