"""Spreading: from trajectories to their turns, and from turns to their tokens.

Each action token gets its turn's advantage as it is, or its own where the estimator tells tokens apart. How turns and
trajectories of different lengths weigh against each other is the objective's business (`learner.objective.aggregate`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.records import BoolArray, FloatArray, Trajectory


def to_turns(values: Array, usable: Mask, rewards: TurnRewards) -> TurnAdvantages:
    """Give every turn of a trajectory the trajectory's advantage; `values` and `usable` are [N]."""
    mask = rewards.turn_exists & usable[:, None]
    return TurnAdvantages(values=np.where(mask, values[:, None], 0.0), mask=mask)


def to_tokens(
    advantages: TurnAdvantages, trajectories: Sequence[Trajectory]
) -> list[list[tuple[FloatArray, BoolArray]]]:
    """Return by trajectory and turn the advantage and the loss mask of its action tokens, [num_action_tokens] each.

    ValueError, naming trajectory and turn, for an advantage that is not finite or not one a token: a wrong estimator.
    """
    return [
        [_spread_turn(advantages, i, k, len(turn.action_ids), trajectory) for k, turn in enumerate(trajectory.turns)]
        for i, trajectory in enumerate(trajectories)
    ]


def _spread_turn(
    advantages: TurnAdvantages, i: int, k: int, num_tokens: int, trajectory: Trajectory
) -> tuple[FloatArray, BoolArray]:
    is_trained = bool(advantages.mask[i, k])
    mask = np.full(num_tokens, is_trained, dtype=bool)
    if not is_trained:
        return np.zeros(num_tokens, dtype=np.float32), mask
    values = np.full(num_tokens, advantages.values[i, k]) if advantages.tokens is None else advantages.tokens[i][k]
    place = f"trajectory {trajectory.trajectory_id} turn {k}"
    if len(values) != num_tokens:
        raise ValueError(f"{place}: the estimator gave {len(values)} advantages to {num_tokens} action tokens")
    with np.errstate(over="ignore"):
        packed = np.asarray(values, dtype=np.float32)
    if not np.isfinite(packed).all() or not np.isfinite(advantages.values[i, k]):
        raise ValueError(f"{place}: the estimator gave an advantage that is not finite, or too large for float32")
    return packed, mask
