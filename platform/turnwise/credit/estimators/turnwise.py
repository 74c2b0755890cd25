"""Turnwise: turn-level leave-one-out that learns from equal states; critic-free, unbiased when turn counts differ.

By channel c, with M_ik the other trajectories of the group that were in the state s_ik at the same turn k (the
whole-trajectory score is part of the last turn's reward):

    T_ik = r_ik + gamma P_i,k+1                               what the turn led to
    P_ik = (T_ik + sum_{j in M_ik} T_jk) / (1 + |M_ik|)       what is left, pooled with the others'; 0 behind the end
    B_ik = (shrink b_ik + sum_{j in M_ik} T_jk) / (shrink + |M_ik|)           b_ik: the baseline of `turn_loo`
    A_ik = T_ik - B_ik

What follows a turn is thus judged by everyone who came to where it led, turn after turn: chance that came later
averages out, and little remains of turns that all led to the same state (with `shrink: 0` nothing). P is the value of
a table fitted to the group (certainty equivalence), made anew for every group, so there is no critic to be wrong.

Unbiased, whatever the turn counts. Given who is where at turn k + 1, each T_j,k+1 has the value of j's state for its
mean, by induction from the last turn; so whoever is in P, its mean is the value V of its state, and
E[T_ik | s_ik, a_ik] = Q(s_ik, a_ik). A T_jk in the baseline may hold i's own later rewards (if i came to where j was
led), and yet its mean is r_jk + gamma V(s_j,k+1) whatever i did: i's action decides who is averaged, not what the mean
is. It rests on the keys: turns of equal number and `state_key` must have the same future in distribution, which they
have not if the policy goes on otherwise after another past. Where that matters set `lookahead: own`, which takes the
turn's own return for T and is unbiased with any keys that are known before the action. A turn without a key, or whose
state no other trajectory saw at that turn, has P = T and the baseline b: without any keys this is `turn_loo`, bit for
bit.

`match: state` counts a state as the same at any turn: more is pooled where states come again, but the keys must then
say how many turns are left if there is a limit. P is then the mean return from the others' first visits (the mean over
all visits is biased), and so is the baseline, which holds no later reward of i:

    P_ik = (G_ik + sum_{j in M_ik} G_j(s_ik)) / (1 + |M_ik|)
    B_ik = (shrink b_ik + sum_{j in M_ik} G_j(s_ik)) / (shrink + |M_ik|)

A channel in `immediate` has T_ik = r_ik (see `turn_loo`).

Where a whole group does alike, right or wrong, nothing within it can say so, and every such task is lost. `prior`: p
counts the mean m_k of the other tasks' returns from turn k as so many visits,

    B_ik = (p m_k + n_ik B_ik) / (p + n_ik),    n_ik: the visits in B_ik, with `shrink`; without a state those in b_ik

so that tasks which all fail are pushed down and those which all succeed up, as a baseline over the batch does with all
tasks (REINFORCE++, algorithms.md 3.4), and those that are undecided keep nearly their own. Other tasks know nothing of
i's actions: it stays unbiased. What it brings where a policy is stuck: docs/rewards.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, group_sum, mean_of_other_groups, mean_of_others
from turnwise.credit.returns import immediate_rewards, rewards_with_outcome, turn_returns
from turnwise.credit.states import state_codes, sum_elsewhere

LOOKAHEAD = ("pooled", "own")
MATCH = ("turn", "state")


@dataclass
class TurnwiseConfig:
    """Options of `turnwise`."""

    gamma: float = key(1.0, "discount a turn", at_least=0, at_most=1)
    match: str = key(
        "turn",
        "which turns are compared: turn takes those of equal number and key, state those of equal key",
        one_of=MATCH,
    )
    lookahead: str = key(
        "pooled",
        "what follows a turn: pooled averages it with what others had from the same next state, own does not",
        one_of=LOOKAHEAD,
    )
    shrink: float = key(1.0, "visits that the turn's own baseline counts for beside those of its state", at_least=0)
    prior: float = key(
        0.0,
        "visits that the mean over the batch's other tasks counts for in a baseline that has others of its own task",
        at_least=0,
    )
    immediate: list[str] | None = key(  # noqa: RUF009
        None,
        "channels whose score judges its turn alone: later turns' scores do not count with it; null: those of scorers"
        " that say so, and the oracle's",
    )
    singleton: str = key(
        "zero", "a turn with no other return to compare: zero leaves it out, raw takes it", one_of=SINGLETON
    )


class Turnwise:
    """The estimator `turnwise`."""

    Config = TurnwiseConfig
    needs_group = True
    channel_options = ("immediate",)
    scale = "group"

    def __init__(self, config: TurnwiseConfig) -> None:
        """Take the options as they are; the configuration has checked them. No channels: none is immediate."""
        self.config, self._immediate = config, frozenset(config.immediate or ())

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; what is masked is in no mean, and turns before it are not trained on."""
        groups, exists = group_codes(rewards.group), rewards.turn_exists
        states = state_codes(groups, rewards.state_keys, exists)
        total, usable = np.zeros(exists.shape), exists
        for channel in rewards.channels:
            returns, known = self._returns(rewards, channel)
            others, has_others = mean_of_others(returns, known, groups)
            targets, sums, counts = self._compared(rewards, channel, returns, known & exists, states)
            baseline = self._baseline(others, sums, counts)
            if self.config.prior > 0:
                visits = np.where(counts > 0, self.config.shrink + counts, group_sum(returns, known, groups)[1] - known)
                baseline = self._toward_other_tasks(baseline, visits, *mean_of_other_groups(returns, known, groups))
            advantages = np.where(has_others, targets - baseline, returns)
            total += rewards.weights[channel] * advantages
            usable = usable & known & (has_others | (self.config.singleton == "raw"))
        return TurnAdvantages(values=np.where(usable, total, 0.0), mask=usable)

    def _returns(self, rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
        if channel in self._immediate:
            return immediate_rewards(rewards, channel)
        return turn_returns(rewards, channel, self.config.gamma)

    def _compared(
        self, rewards: TurnRewards, channel: str, returns: Array, known: Mask, states: NDArray[np.int64]
    ) -> tuple[Array, Array, Array]:
        """Return T, the sum over M and its size, [N, K] each."""
        targets, gamma = returns, self.config.gamma
        is_pooled = self.config.lookahead == "pooled" and channel not in self._immediate
        paid, _ = rewards_with_outcome(rewards, channel)
        if self.config.match == "turn":
            if is_pooled:
                targets = pooled_by_turn(paid, known, states, gamma)
            return targets, *sum_elsewhere(targets, known, by_turn(states))
        sums, counts = sum_elsewhere(returns, known & first_visits(states), states)
        if is_pooled:
            targets = pooled_by_state(paid, returns, sums, counts, gamma)
        return targets, sums, counts

    def _baseline(self, others: Array, sums: Array, counts: Array) -> Array:
        weight = self.config.shrink
        seen = (weight * others + sums) / np.where(counts > 0, weight + counts, 1.0)
        return np.where(counts > 0, seen, others)

    def _toward_other_tasks(self, baseline: Array, visits: Array, tasks: Array, has_tasks: Mask) -> Array:
        prior = np.where(has_tasks, self.config.prior, 0.0)
        return (prior * tasks + visits * baseline) / np.maximum(prior + visits, 1.0e-12)


def pooled_by_turn(paid: Array, known: Mask, states: NDArray[np.int64], gamma: float) -> Array:
    """Return T [N, K] of rewards [N, K], 0 behind the end: each turn's reward and the pooled rest of its next state."""
    targets = paid.copy()
    for k in range(paid.shape[1] - 1, 0, -1):
        targets[:, k - 1] += gamma * mean_within(targets[:, k], known[:, k], states[:, k])
    return targets


def mean_within(values: Array, known: Mask, states: NDArray[np.int64]) -> Array:
    """Return [N] the mean of the known values of equal states; a value without a state, or unknown, as it is."""
    counted = known & (states >= 0)
    state = states[counted]
    found = values.copy()
    found[counted] = np.bincount(state, values[counted])[state] / np.bincount(state)[state]
    return found


def pooled_by_state(paid: Array, returns: Array, sums: Array, counts: Array, gamma: float) -> Array:
    """Return T [N, K]: each turn's reward, and its next state's return pooled with the others' from there."""
    later = np.where(counts > 0, (returns + sums) / (1.0 + counts), returns)
    pooled = paid.copy()
    pooled[:, :-1] += gamma * later[:, 1:]
    # no rounding where nothing was pooled: then it is turn_loo's return
    is_pooled = np.zeros(counts.shape, dtype=bool)
    is_pooled[:, :-1] = counts[:, 1:] > 0
    return np.where(is_pooled, pooled, returns)


def by_turn(states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return [N, K] one number a state and turn; -1 without a state."""
    width = states.shape[1]
    return np.where(states >= 0, states * width + np.arange(width), -1)


def first_visits(states: NDArray[np.int64]) -> Mask:
    """Return [N, K] True at a row's first turn in a state."""
    rows = np.arange(states.shape[0])[:, None]
    _, places = np.unique(rows * (states.max(initial=0) + 2) + states + 1, return_index=True)
    first = np.zeros(states.size, dtype=bool)
    first[places] = True
    return first.reshape(states.shape)
