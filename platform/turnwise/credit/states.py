"""Visits of the same state: codes of states within their groups, and means over other trajectories' visits.

Called by estimators that compare turns by `state_keys` (`state_gae`, `turnwise`, `gigpo`,
`vpr`). A turn without a key is alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array, Mask


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
