"""Implicit process rewards: from log-ratios of two models to rewards of steps (algorithms.md 1.1, 1.3).

A model phi trained as an outcome reward model of the form r(y) = beta log(phi(y) / ref(y)) carries a process reward
for free: with l_t the log-ratio of token t,  q_t = beta sum over u <= t of l_u  is the expected outcome after token t
(exactly beta log E_ref[exp(r / beta)]; ImplicitPRM, arXiv 2412.01981), and a step is worth the difference of q between
its end and the end of the step before: the sum of beta l_t over its tokens. iStar (arXiv 2509.19199) takes for `ref`
the policy that sampled the batch. Scorers call this; what they return is a channel of turn scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array


def implicit_values(log_ratio: Array, beta: float) -> Array:
    """Return q, [..., T], of log-ratios [..., T] of the tokens of a response (0 where there is none)."""
    return np.asarray(beta * np.cumsum(log_ratio, axis=-1), dtype=np.float64)


def rewards_of_steps(values: Array, step_ends: Sequence[int]) -> Array:
    """Return [num_steps] the gain of `values`, [T], over each step; `step_ends` are the steps' last tokens."""
    return np.diff(values[np.asarray(step_ends, dtype=np.int64)], prepend=0.0)


def step_rewards(log_ratio: Array, turn_ids: NDArray[np.int64], beta: float, num_turns: int) -> Array:
    """Return [N, num_turns] beta times the sum of log-ratios over each turn's tokens.

    `log_ratio` and `turn_ids` are [N, T]; -1 stands at tokens that the policy did not write, whose log-ratio is not
    read.
    """
    totals = np.zeros((len(log_ratio), num_turns))
    rows, places = np.nonzero(turn_ids >= 0)
    np.add.at(totals, (rows, turn_ids[rows, places]), log_ratio[rows, places])
    return beta * totals
