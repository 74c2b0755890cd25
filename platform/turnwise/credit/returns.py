"""Returns of turns and of whole trajectories, one channel at a time, with what is known of them.

Called by the estimators. A masked score makes every return that contains it unknown: of its own turn and of all
earlier ones, and of every turn if the score is of the whole trajectory. Later turns stay known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from turnwise.credit import Array, Mask, TurnRewards
from turnwise.errors import UserError


def turn_returns(rewards: TurnRewards, channel: str, gamma: float) -> tuple[Array, Mask]:
    """Return G and whether it is known, [N, K] each, carried on behind the end.

    G[i, k] = sum over j >= k of gamma^(j-k) r[i, j], the whole-trajectory score being part of the last turn's reward
    (algorithms.md 0.4). For k >= K_i it is the last turn's return; of a trajectory without turns, its whole score.
    """
    returns, known = rewards_with_outcome(rewards, channel)
    for k in range(returns.shape[1] - 2, -1, -1):
        returns[:, k] += gamma * returns[:, k + 1]
        known[:, k] &= known[:, k + 1]
    carried = np.minimum(np.arange(returns.shape[1])[None, :], _last_turn(rewards)[:, None])
    return np.take_along_axis(returns, carried, axis=1), np.take_along_axis(known, carried, axis=1)


def immediate_rewards(rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
    """Return each turn's own score and whether it is known, [N, K] each, the last one's carried on behind the end.

    For a channel whose score of a turn judges that turn alone, so that no later score counts with it. Raises UserError
    if it scores whole trajectories, which no single turn earned.
    """
    if np.any(np.where(rewards.outcome_mask[channel], rewards.outcome[channel], 0.0) != 0.0):
        problem = "the channel also scores whole trajectories, which is not a judgement of one turn"
        raise UserError("credit.estimator.immediate", channel, problem, "take it off the list, or score turns only")
    values, known = rewards_with_outcome(rewards, channel)
    known = known & rewards.outcome_mask[channel][:, None]
    carried = np.minimum(np.arange(values.shape[1])[None, :], _last_turn(rewards)[:, None])
    return np.take_along_axis(values, carried, axis=1), np.take_along_axis(known, carried, axis=1)


def trajectory_scores(rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
    """Return the undiscounted sum of all rewards of each trajectory and whether it is known, [N] each."""
    returns, known = turn_returns(rewards, channel, gamma=1.0)
    return returns[:, 0], known[:, 0]


def weighted_scores(rewards: TurnRewards) -> tuple[Array, Mask]:
    """Return the weighted sum of each trajectory's channels and whether all of them are known, [N] each."""
    return _weighted(rewards, (len(rewards.group),), lambda channel: trajectory_scores(rewards, channel))


def weighted_returns(rewards: TurnRewards, gamma: float) -> tuple[Array, Mask]:
    """Return the weighted sum of the channels' returns and whether all are known, [N, K] each, carried on behind."""
    return _weighted(rewards, rewards.turn_exists.shape, lambda channel: turn_returns(rewards, channel, gamma))


def weighted_rewards(rewards: TurnRewards) -> tuple[Array, Mask]:
    """Return the weighted sum of the channels' rewards of each turn and whether all are known, [N, K] each."""
    return _weighted(rewards, rewards.turn_exists.shape, lambda channel: rewards_with_outcome(rewards, channel))


def rewards_with_outcome(rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
    """Return each turn's reward and whether it is known, [N, K] each; the last one's holds the trajectory's score."""
    exists = rewards.turn_exists
    values = np.where(exists & rewards.turn_mask[channel], rewards.turn[channel], 0.0).astype(np.float64)
    known = rewards.turn_mask[channel] | ~exists
    rows, last = np.arange(len(values)), _last_turn(rewards)
    values[rows, last] += np.where(rewards.outcome_mask[channel], rewards.outcome[channel], 0.0)
    known[rows, last] &= rewards.outcome_mask[channel]
    return values, known


def _weighted(
    rewards: TurnRewards, shape: tuple[int, ...], of_channel: Callable[[str], tuple[Array, Mask]]
) -> tuple[Array, Mask]:
    """Return the weighted sum over channels and whether all are known, of `shape` each; what is unknown adds 0."""
    total, known = np.zeros(shape), np.ones(shape, dtype=bool)
    for channel in rewards.channels:
        values, channel_known = of_channel(channel)
        total += rewards.weights[channel] * np.where(channel_known, values, 0.0)
        known &= channel_known
    return total, known


def _last_turn(rewards: TurnRewards) -> np.ndarray:
    return np.maximum(np.asarray(rewards.num_turns, dtype=np.int64) - 1, 0)
