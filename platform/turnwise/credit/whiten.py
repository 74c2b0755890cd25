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
    weights = np.where(counted, 1.0 if times is None else times, 0.0)
    total = max(float(weights.sum()), 1.0)
    deviations = _deviations(values, counted, weights, total)
    variance = float((weights * deviations**2).sum()) / max(total - 1.0, 1.0)
    return deviations / np.sqrt(variance + 1e-8)


def standardise(values: Array, counted: Mask, eps: float = 1e-8) -> Array:
    """Return (x - mean) / (std + eps) with the population's standard deviation; same shape."""
    weights = counted.astype(np.float64)
    total = max(float(weights.sum()), 1.0)
    deviations = _deviations(values, counted, weights, total)
    return deviations / (float(np.sqrt((weights * deviations**2).sum() / total)) + eps)


def _deviations(values: Array, counted: Mask, weights: Array, total: float) -> Array:
    mean = float((weights * np.where(counted, values, 0.0)).sum()) / total
    return np.where(counted, values - mean, 0.0)
