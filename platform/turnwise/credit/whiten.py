"""Normalisation over a whole batch: mean 0 and standard deviation 1 of whatever counts.

Called by the estimators after their baseline, or instead of one. Entries that do not count are in no statistic and 0.
Estimates of different groups depend on each other through the batch's mean and standard deviation.
"""

from __future__ import annotations

import numpy as np

from turnwise.credit import Array, Mask


def whiten(values: Array, counted: Mask, times: Array | None = None) -> Array:
    """Return (x - mean) / sqrt(var + 1e-8) with the unbiased variance (algorithms.md 0.5); same shape.

    `times`: how often each entry counts; a turn may stand for its tokens.
    """
    weights = np.ones(int(counted.sum())) if times is None else times[counted]
    total = max(float(weights.sum()), 1.0)
    deviations = values[counted] - float((weights * values[counted]).sum()) / total
    variance = float((weights * deviations**2).sum()) / max(total - 1.0, 1.0)
    return _placed(deviations / np.sqrt(variance + 1e-8), counted)


def standardise(values: Array, counted: Mask, eps: float = 1e-8) -> Array:
    """Return (x - mean) / (std + eps) with the population's standard deviation; same shape."""
    total = max(float(counted.sum()), 1.0)
    deviations = values[counted] - float(values[counted].sum()) / total
    return _placed(deviations / (float(np.sqrt((deviations**2).sum() / total)) + eps), counted)


def _placed(values: Array, counted: Mask) -> Array:
    placed = np.zeros(counted.shape)
    placed[counted] = values
    return placed
