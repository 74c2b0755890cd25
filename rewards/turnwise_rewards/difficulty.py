"""Difficulty of unit tests: how much one that an attempt passes is worth (VeRPO, algorithms.md 4.5; arXiv 2601.03525).

An attempt is one turn of one trajectory of a group. With rho_j the share of the group's attempts that pass test j, the
reward of a turn is the sum of w_j over the tests that it passes. A scorer of groups will call this; the estimator
`verpo` takes the channel that it fills. The constants are ours, as the paper's copies at hand do not give them.
"""

from __future__ import annotations

import numpy as np

from turnwise.credit import Array


def pass_rates(passes: Array) -> Array:
    """Return [num_tests] rho of `passes`, [num_attempts, num_tests] of 0 and 1, at least one attempt."""
    return np.asarray(passes, dtype=np.float64).mean(axis=0)


def difficulty_weights(passes: Array, *, alpha: float = 1.0, sigma: float = 0.2, delta: float = 1e-6) -> Array:
    """Return [num_tests] w_j = exp(-alpha rho_j) / (N(rho_j) + delta), N(x) = sum_j exp(-(x - rho_j)^2 / 2 sigma^2).

    N counts the tests that are about as hard, so that many easy ones do not outweigh a hard one.
    """
    rates = pass_rates(passes)
    distances = rates[:, None] - rates[None, :]
    density = np.exp(-(distances**2) / (2.0 * sigma**2)).sum(axis=1)
    return np.asarray(np.exp(-alpha * rates) / (density + delta))


def failure_weights(passes: Array) -> Array:
    """Return [num_tests] 1 - rho_j over its sum, the form of the paper's first version; 0 where all pass everything."""
    failures = 1.0 - pass_rates(passes)
    return np.asarray(failures / total if (total := failures.sum()) > 0.0 else failures)


def turn_scores(passes: Array, weights: Array) -> Array:
    """Return [num_attempts] the weight of the tests that each attempt passes."""
    return np.asarray(passes, dtype=np.float64) @ weights
