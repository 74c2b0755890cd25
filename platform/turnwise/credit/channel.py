"""One channel of the rewards by itself: taken out, changed, put back. Used by the fusions.

The masks obey one rule here for all of them: a channel that is put back is masked wherever it was masked before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.returns import rewards_with_outcome, trajectory_scores
from turnwise.errors import JudgeError, UserError

SCOPES = ("trajectory", "turn")
"""What a fusion compares: whole trajectories by their sums, or turn scores turn by turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """The scores of one channel; 0 where masked."""

    turn: Array  # [N, K]
    turn_mask: Mask  # [N, K]
    outcome: Array  # [N]
    outcome_mask: Mask  # [N]

    def scaled(self, factor: Array, known: Mask) -> Channel:
        """Return all of a trajectory's scores times its factor, masked where that is unknown; [N] each."""
        return Channel(
            turn=self.turn * factor[:, None],
            turn_mask=self.turn_mask & known[:, None],
            outcome=self.outcome * factor,
            outcome_mask=self.outcome_mask & known,
        )

    def plus_outcome(self, amount: Array, known: Mask) -> Channel:
        """Return the channel with an amount added to each trajectory's own score; [N] each."""
        return dataclasses.replace(self, outcome=self.outcome + amount, outcome_mask=self.outcome_mask & known)


def channel_of(rewards: TurnRewards, name: str) -> Channel:
    """Return a channel's scores, 0 where masked; UserError if the rewards have no such channel."""
    _check_known(rewards, name)
    turn_mask, outcome_mask = rewards.turn_mask[name], rewards.outcome_mask[name]
    return Channel(
        turn=np.where(turn_mask, rewards.turn[name], 0.0),
        turn_mask=turn_mask,
        outcome=np.where(outcome_mask, rewards.outcome[name], 0.0),
        outcome_mask=outcome_mask,
    )


def with_channel(rewards: TurnRewards, name: str, channel: Channel) -> TurnRewards:
    """Return new rewards in which this channel has these scores, masked also where it was masked before."""
    _check_known(rewards, name)
    turn_mask = channel.turn_mask & rewards.turn_mask[name]
    outcome_mask = channel.outcome_mask & rewards.outcome_mask[name]
    return dataclasses.replace(
        rewards,
        turn={**rewards.turn, name: np.where(turn_mask, channel.turn, 0.0)},
        turn_mask={**rewards.turn_mask, name: turn_mask},
        outcome={**rewards.outcome, name: np.where(outcome_mask, channel.outcome, 0.0)},
        outcome_mask={**rewards.outcome_mask, name: outcome_mask},
    )


def whole(rewards: TurnRewards, values: Array, known: Mask) -> Channel:
    """Return a channel of whole-trajectory scores, [N] each, and of no turn scores."""
    exists = rewards.turn_exists
    return Channel(turn=np.zeros(exists.shape), turn_mask=exists, outcome=values, outcome_mask=known)


def sums(rewards: TurnRewards, names: Sequence[str]) -> tuple[Array, Mask]:
    """Return [N, C] the sum of each trajectory's scores by channel, and whether all of them are known; 0 if not."""
    for name in names:
        _check_known(rewards, name)
    pairs = [trajectory_scores(rewards, name) for name in names]
    values, known = (np.stack(parts, axis=1) for parts in zip(*pairs, strict=True))
    return np.where(known, values, 0.0), known


def total(rewards: TurnRewards, name: str) -> tuple[Array, Mask]:
    """Return [N] the sum of each trajectory's scores on one channel, and whether all of them are known; 0 if not."""
    values, known = sums(rewards, [name])
    return values[:, 0], known[:, 0]


def by_turn(rewards: TurnRewards, name: str) -> tuple[Array, Mask]:
    """Return [N, K] each turn's score, the trajectory's own being part of the last one's, and whether it is known."""
    _check_known(rewards, name)
    return rewards_with_outcome(rewards, name)


def check_range(rewards: TurnRewards, name: str, values: Array, known: Mask, *, low: float, high: float) -> None:
    """JudgeError, naming trajectory and turn, for the first known value outside [low, high]; values [N] or [N, K]."""
    outside = np.argwhere(known & ((values < low) | (values > high)))
    if not len(outside):
        return
    i, *k = (int(index) for index in outside[0])
    where = f"turn {k[0]}" if k else "whole trajectory"
    place = f"score on channel {name!r}, trajectory {rewards.name_of(i)}, {where}"
    raise JudgeError(f"{place}: {values[tuple(outside[0])]} is not within {low:g} and {high:g}")


def _check_known(rewards: TurnRewards, name: str) -> None:
    if name not in rewards.turn:
        raise UserError("credit.fuse", name, "a fusion names a channel that is not there", "add it to credit.channels")
