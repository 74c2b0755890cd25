"""Implicit process rewards: what a reward model's log-probabilities say about each turn (algorithms.md 1.1-1.3).

With q_t = lp_phi - lp_ref on action tokens (iStar: the policy that sampled is the reference, PRIME: a frozen model),

    r_ik = beta sum over the tokens of turn k of q_t,    Q_i = sum_k r_ik

`turn_rewards` are the scores that a scorer with such a model inside will emit, one a turn. `trajectory_scores` is the
first pass of its training and `preference_losses` what comes of it; `token_gradient` says what the second pass must
have as its gradient. iStar's released code takes the mean over turns (`over_turns="mean"`), which pays a token of a
long trajectory less; the paper, and we, the sum.

If phi was trained as an outcome reward model of the form r(y) = beta log(phi(y) / ref(y)), then beta sum over u <= t of
q_u is the expected outcome after token t, exactly beta log E_ref[exp(r / beta)] (ImplicitPRM, arXiv 2412.01981):
`token_values`. A step is worth what they gain over it, `step_rewards`, which for turns is `turn_rewards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array

OverTurns = Literal["sum", "mean"]

BETA = 0.05
"""Of both papers."""


def turn_rewards(log_ratios: Array, turn_id: NDArray[np.int64], beta: float = BETA) -> Array:
    """Return [N, K] the reward of each turn; 0 behind a trajectory's end.

    `log_ratios` is [N, L] q_t, `turn_id` [N, L] the turn of each token, -1 where the policy wrote none (there q_t is
    not looked at). ValueError for other shapes, or a q_t of an action token that is not finite.
    """
    log_ratios, turn_id = _checked(log_ratios, turn_id)
    values = np.zeros((len(turn_id), int(turn_id.max(initial=-1)) + 1))
    rows, places = np.nonzero(turn_id >= 0)
    np.add.at(values, (rows, turn_id[rows, places]), log_ratios[rows, places])
    return beta * values


def token_values(log_ratios: Array, beta: float = BETA) -> Array:
    """Return the expected outcome after each token, [..., T], of q [..., T] of a response (0 where there is none)."""
    return np.asarray(beta * np.cumsum(log_ratios, axis=-1), dtype=np.float64)


def step_rewards(gained: Array, step_ends: Sequence[int]) -> Array:
    """Return [num_steps] what `gained` [T], of `token_values`, grows by over each step, given their last tokens."""
    return np.diff(gained[np.asarray(step_ends, dtype=np.int64)], prepend=0.0)


def trajectory_scores(
    log_ratios: Array, turn_id: NDArray[np.int64], beta: float = BETA, over_turns: OverTurns = "sum"
) -> Array:
    """Return [N] the score Q of each trajectory. ValueError for one without action tokens: it has no score."""
    return turn_rewards(log_ratios, turn_id, beta).sum(axis=1) * _scale(turn_id, over_turns)


def token_gradient(
    coefficients: Array, turn_id: NDArray[np.int64], beta: float = BETA, over_turns: OverTurns = "sum"
) -> Array:
    """Return [N, L] dL/dq of every token, out of dL/dQ of every trajectory (`PreferenceLoss.coefficients`)."""
    each = np.asarray(coefficients, dtype=np.float64) * beta * _scale(turn_id, over_turns)
    return np.where(np.asarray(turn_id) >= 0, each[:, None], 0.0)


def _scale(turn_id: NDArray[np.int64], over_turns: OverTurns) -> Array:
    if over_turns not in ("sum", "mean"):
        raise ValueError(f"over_turns is {over_turns!r}: it must be 'sum' or 'mean'")
    num_turns = np.asarray(turn_id).max(axis=1, initial=-1) + 1
    empty = np.flatnonzero(num_turns == 0)
    if empty.size:
        raise ValueError(f"trajectories {empty.tolist()} have no action token, so they have no score: leave them out")
    return np.ones(len(num_turns)) if over_turns == "sum" else 1.0 / num_turns


def _checked(log_ratios: Array, turn_id: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    log_ratios, turn_id = np.asarray(log_ratios, dtype=np.float64), np.asarray(turn_id)
    if log_ratios.ndim != 2 or log_ratios.shape != turn_id.shape:
        raise ValueError(f"log_ratios {log_ratios.shape} and turn_id {turn_id.shape}: both must be [N, L]")
    if not np.isfinite(log_ratios[turn_id >= 0]).all():
        raise ValueError("a log-ratio of an action token is not finite")
    return log_ratios, turn_id
