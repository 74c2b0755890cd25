"""SPA-RL: what a model that shares an outcome among turns is trained by (algorithms.md 4.1; arXiv 2505.20732).

A progress scorer will call this; the fusion `progress` takes the channel of contributions that it fills.
"""

from __future__ import annotations

import numpy as np

from turnwise.credit import Array, Mask


def attribution_error(contributions: Array, exists: Mask, outcomes: Array) -> float:
    """Return the mean over trajectories of (sum of contributions - outcome)^2: what a progress estimator minimises.

    `contributions` and `exists` are [N, K], `outcomes` [N].
    """
    return float(np.mean((np.where(exists, contributions, 0.0).sum(axis=1) - outcomes) ** 2))
