"""CM2: the score of a turn by a checklist whose items a judge marks step by step (algorithms.md 4.4).

A checklist scorer will call this, once a turn; the estimators `cm2` and `cm2_step` take the channels that it fills.
"""

from __future__ import annotations

import numpy as np

from turnwise.credit import Array


def checklist_score(passes: Array, weights: Array) -> float:
    """Return the weight of the items that some step passes; `passes` is [num_steps, num_items] of 0 and 1."""
    return float(np.asarray(weights, dtype=np.float64) @ (np.asarray(passes) > 0.5).any(axis=0))
