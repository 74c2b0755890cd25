"""Turnwise: turn-level leave-one-out that learns from equal states; critic-free, unbiased when turn counts differ.

By channel c, with G_ik the return of trajectory i from turn k on (the whole-trajectory score is part of the last
turn's reward), M_ik the other trajectories of the group that were in the state s_ik, and G_j(s) the return of
trajectory j from its first visit of s on:

    A_ik = r_ik + gamma P_i(s_i,k+1) - B_ik
    P_i(s_ik) = (G_ik + sum_{j in M_ik} G_j(s_ik)) / (1 + |M_ik|)            what is left, pooled with the others'
    B_ik = (shrink b_ik + sum_{j in M_ik} G_j(s_ik)) / (shrink + |M_ik|)     b_ik: the baseline of `turn_loo`

What follows a turn is thus judged by everyone who came to where it led: chance that came later averages out, little
remains of turns that did not matter, and a state seen rarely is trusted by the number of its visits.

Unbiased, whatever the turn counts: B depends on other trajectories and on i's past alone. P averages returns from equal
states, each with mean V(s), over a set that the others' pasts determine (hence first visits; the mean over all visits
is biased where states come again). So E[A_ik | s_ik, a_ik] = Q(s_ik, a_ik) - E[B_ik | s_ik]. It rests on the keys:
turns with equal `state_key`s must have the same future in distribution, which a time limit that the keys do not show
prevents, and so does a policy that goes on otherwise after another past. Where that matters set `lookahead: own`, which
takes G_i,k+1 for P and is unbiased with any keys that are known before the action. A turn without a key, or whose
state no other trajectory saw, has P = G_ik and B = b_ik: without any keys this is `turn_loo`, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, mean_of_others
from turnwise.credit.returns import rewards_with_outcome, turn_returns
from turnwise.credit.states import state_codes, sum_elsewhere

LOOKAHEAD = ("pooled", "own")


@dataclass
class TurnwiseConfig:
    """Options of `turnwise`."""

    gamma: float = key(1.0, "discount a turn", at_least=0, at_most=1)
    lookahead: str = key(
        "pooled",
        "what follows a turn: pooled averages it with what others had from the same next state, own does not",
        one_of=LOOKAHEAD,
    )
    shrink: float = key(1.0, "visits that the turn's own baseline counts for beside those of its state", at_least=0)
    singleton: str = key(
        "zero", "a turn with no other return to compare: zero leaves it out, raw takes it", one_of=SINGLETON
    )


class Turnwise:
    """The estimator `turnwise`."""

    Config = TurnwiseConfig
    needs_group = True

    def __init__(self, config: TurnwiseConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; what is masked is in no mean, and turns before it are not trained on."""
        groups, exists = group_codes(rewards.group), rewards.turn_exists
        states = state_codes(groups, rewards.state_keys, exists)
        is_first = first_visits(states)
        total, usable = np.zeros(exists.shape), exists
        for channel in rewards.channels:
            returns, known = turn_returns(rewards, channel, self.config.gamma)
            by_turn, has_others = mean_of_others(returns, known, groups)
            sums, counts = sum_elsewhere(returns, known & exists & is_first, states)
            immediate, _ = rewards_with_outcome(rewards, channel)
            targets = self._targets(immediate, returns, sums, counts)
            advantages = np.where(has_others, targets - self._baseline(by_turn, sums, counts), returns)
            total += rewards.weights[channel] * advantages
            usable = usable & known & (has_others | (self.config.singleton == "raw"))
        return TurnAdvantages(values=np.where(usable, total, 0.0), mask=usable)

    def _targets(self, immediate: Array, returns: Array, sums: Array, counts: Array) -> Array:
        """Return [N, K] the turn's reward and what follows it."""
        if self.config.lookahead == "own":
            return returns
        later = np.where(counts > 0, (returns + sums) / (1.0 + counts), returns)
        pooled = immediate.copy()
        pooled[:, :-1] += self.config.gamma * later[:, 1:]
        # no rounding where nothing was pooled: then it is turn_loo's return
        is_pooled = np.zeros(counts.shape, dtype=bool)
        is_pooled[:, :-1] = counts[:, 1:] > 0
        return np.where(is_pooled, pooled, returns)

    def _baseline(self, by_turn: Array, sums: Array, counts: Array) -> Array:
        weight = self.config.shrink
        seen = (weight * by_turn + sums) / np.where(counts > 0, weight + counts, 1.0)
        return np.where(counts > 0, seen, by_turn)


def first_visits(states: NDArray[np.int64]) -> Mask:
    """Return [N, K] True at a row's first turn in a state."""
    rows = np.arange(states.shape[0])[:, None]
    _, places = np.unique(rows * (states.max(initial=0) + 2) + states + 1, return_index=True)
    first = np.zeros(states.size, dtype=bool)
    first[places] = True
    return first.reshape(states.shape)
