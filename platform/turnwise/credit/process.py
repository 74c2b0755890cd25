"""The two kinds of score that estimators with a process channel tell apart: of the turns, and of the whole.

Called by the estimators that name a channel of turn scores (a process reward model's, a tool checker's) in an option.
Scores come out times their channel's weight, as everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.returns import rewards_with_outcome, weighted_scores


def process_scores(rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
    """Return each turn's own score on a channel and whether it is known, [N, K] each; 0 and False where no turn is.

    A score of the whole trajectory is part of its last turn's.
    """
    values, known = rewards_with_outcome(rewards, channel)
    known = known & rewards.turn_exists
    return rewards.weights[channel] * np.where(known, values, 0.0), known


def scores_on(rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
    """Return each trajectory's sum on one channel and whether it is known, [N] each."""
    return weighted_scores(dataclasses.replace(rewards, weights={channel: rewards.weights[channel]}))


def scores_without(rewards: TurnRewards, left_out: Collection[str]) -> tuple[Array, Mask]:
    """Return each trajectory's weighted sum over all other channels and whether it is known, [N] each."""
    kept = {channel: weight for channel, weight in rewards.weights.items() if channel not in left_out}
    return weighted_scores(dataclasses.replace(rewards, weights=kept))
