"""Generalised advantage estimation over tokens or turns, given values (arXiv 1506.02438; algorithms.md 3.5, 3.8).

    delta_t = r_t + gamma V_next - V_t,    A_t = delta_t + gamma lam A_next

Behind a trajectory's end V and A are 0, also where it was cut off. What the mask leaves out (observation tokens,
padding) has neither reward nor value: V_next and A_next pass over it unchanged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array, Mask

ANCHORS = ("last", "first")
"""The token whose value is its turn's: the last one (VAGEN's turn ends) or the first (what was known before acting)."""


def gae(rewards: Array, values: Array, mask: Mask, gamma: float, lam: float, ends: Mask | None = None) -> Array:
    """Return the advantages, [N, L] (tokens) or [N, K] (turns) as the arguments; 0 outside the mask.

    `ends` marks positions behind which nothing follows: V_next and A_next are 0 there.
    """
    advantages = np.zeros(rewards.shape)
    next_value, next_advantage = np.zeros(len(rewards)), np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        if ends is not None:
            next_value = np.where(ends[:, t], 0.0, next_value)
            next_advantage = np.where(ends[:, t], 0.0, next_advantage)
        found = rewards[:, t] - values[:, t] + gamma * next_value + (gamma * lam) * next_advantage
        next_advantage = np.where(mask[:, t], found, next_advantage)
        next_value = np.where(mask[:, t], values[:, t], next_value)
        advantages[:, t] = np.where(mask[:, t], next_advantage, 0.0)
    return advantages


def within_turns(turn_advantages: Array, values: Array, turn_id: NDArray[np.int64], gamma: float, lam: float) -> Array:
    """Return [N, L] the lower level of bi-level GAE: over the tokens of each turn, anew in every turn.

    The turn's advantage [N, K] plus the value of its last token stands as the reward there, so that the last token's
    advantage is the turn's. `values` and `turn_id` are [N, L]; -1 is no action token.
    """
    last = anchors(turn_id, turn_advantages.shape[1], "last")
    rows, turns = np.nonzero(last >= 0)
    places = last[rows, turns]
    rewards, ends = np.zeros(values.shape), np.zeros(values.shape, dtype=bool)
    rewards[rows, places] = turn_advantages[rows, turns] + values[rows, places]
    ends[rows, places] = True
    return gae(rewards, values, turn_id >= 0, gamma, lam, ends)


def anchor_values(values: Array, turn_id: NDArray[np.int64], num_turns: int, anchor: str) -> Array:
    """Return [N, num_turns] the value of each turn's last or first token; 0 for a turn without tokens."""
    places = anchors(turn_id, num_turns, anchor)
    return np.where(places >= 0, np.take_along_axis(values, np.maximum(places, 0), axis=1), 0.0)


def anchors(turn_id: NDArray[np.int64], num_turns: int, anchor: str) -> NDArray[np.int64]:
    """Return [N, num_turns] the position of each turn's last or first token, -1 for a turn without tokens."""
    farthest = -1 if anchor == "last" else turn_id.shape[1]
    places = np.full((len(turn_id), num_turns), farthest, dtype=np.int64)
    rows, columns = np.nonzero(turn_id >= 0)
    nearer = np.maximum if anchor == "last" else np.minimum
    nearer.at(places, (rows, turn_id[rows, columns]), columns)
    return np.where(places == farthest, -1, places)
