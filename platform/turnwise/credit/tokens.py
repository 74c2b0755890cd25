"""The action tokens of trajectories side by side, for estimators that tell the tokens of a turn apart.

Observation tokens are left out: they carry no advantage, and every recursion over tokens hands its state on over them
unchanged (`credit.gae`), so that leaving them out gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array, Mask, TurnRewards


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where the action tokens of N trajectories with K turns stand in arrays [N, L]; L is the longest one's number."""

    num_turns: NDArray[np.int64]  # [N]
    num_tokens: NDArray[np.int64]  # [N, K] 0 where there is no turn

    @classmethod
    def of(cls, rewards: TurnRewards) -> TokenLayout:
        """Return the layout of these trajectories."""
        num_tokens = np.where(rewards.turn_exists, rewards.num_tokens, 0).astype(np.int64)
        return cls(np.asarray(rewards.num_turns, dtype=np.int64), num_tokens)

    @property
    def ends(self) -> NDArray[np.int64]:
        """[N, K] position of each turn's last token; without a token of its own the last one before it, or -1."""
        return np.cumsum(self.num_tokens, axis=1) - 1

    @property
    def turn_id(self) -> NDArray[np.int64]:
        """[N, L] the turn of each token; -1 behind the end."""
        rows, turns = self.num_tokens.shape
        lengths = self.num_tokens.sum(axis=1)
        turn_id = np.full((rows, int(lengths.max(initial=0))), -1, dtype=np.int64)
        is_token = np.arange(turn_id.shape[1])[None, :] < lengths[:, None]
        turn_id[is_token] = np.repeat(np.tile(np.arange(turns), rows), self.num_tokens.reshape(-1))
        return turn_id

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return [N, L] each token's entry of its turn in `values` [N, K]; zero behind the end."""
        turn_id = self.turn_id
        found = np.take_along_axis(values, np.maximum(turn_id, 0), axis=1)
        return np.where(turn_id >= 0, found, np.zeros((), dtype=values.dtype))

    def at_ends(self, values: Array) -> Array:
        """Return [N, L] with each turn's value on its last token, zero elsewhere.

        The value of a turn without tokens goes to the last token before it; there is nothing else that it could teach.
        """
        tokens = np.zeros(self.turn_id.shape)
        rows, turns = np.nonzero(self.ends >= 0)
        np.add.at(tokens, (rows, self.ends[rows, turns]), values[rows, turns])
        return tokens

    def means(self, tokens: Array) -> Array:
        """Return [N, K] the mean over each turn's tokens; 0 for a turn without any."""
        sums = np.zeros(self.num_tokens.shape)
        turn_id = self.turn_id
        rows, places = np.nonzero(turn_id >= 0)
        np.add.at(sums, (rows, turn_id[rows, places]), tokens[rows, places])
        return sums / np.maximum(self.num_tokens, 1)

    def split(self, tokens: Array) -> Sequence[Sequence[Array]]:
        """Return [N][num_turns][num_tokens], as `TurnAdvantages.tokens` wants it."""
        stops = self.ends + 1
        return [
            [tokens[i, stops[i, k] - self.num_tokens[i, k] : stops[i, k]] for k in range(int(num_turns))]
            for i, num_turns in enumerate(self.num_turns)
        ]


def discounted_returns(rewards: Array, mask: Mask, gamma: float) -> Array:
    """Return G_t = r_t + gamma G_(next token of the mask), [N, L] as the arguments; 0 outside the mask.

    The running return is carried over what is not in the mask (observations) without a discount.
    """
    returns, carried = np.zeros(rewards.shape), np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        carried = np.where(mask[:, t], rewards[:, t] + gamma * carried, carried)
        returns[:, t] = np.where(mask[:, t], carried, 0.0)
    return returns
