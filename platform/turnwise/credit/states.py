"""Visits of the same state: codes of states within their groups, and means over other trajectories' visits.

Called by estimators that compare turns by `state_keys` (`state_gae`, `gigpo`, `vpr`). A turn without a key is alone.
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
    visited = states >= 0
    counted = visited & known
    rows = np.broadcast_to(np.arange(len(states))[:, None], states.shape)
    pairs = np.stack([rows[visited], states[visited]])
    _, own = np.unique(pairs, axis=1, return_inverse=True)
    weights = counted[visited].astype(np.float64)
    amounts = np.where(counted, values, 0.0)[visited]
    counts, sums = (np.bincount(pairs[1], w) for w in (weights, amounts))
    own_counts, own_sums = (np.bincount(own.reshape(-1), w) for w in (weights, amounts))
    mean, exists = np.zeros(states.shape), np.zeros(states.shape, dtype=bool)
    others = counts[pairs[1]] - own_counts[own.reshape(-1)]
    exists[visited] = others > 0.5
    mean[visited] = np.where(others > 0.5, (sums[pairs[1]] - own_sums[own.reshape(-1)]) / np.maximum(others, 1.0), 0.0)
    return mean, exists
