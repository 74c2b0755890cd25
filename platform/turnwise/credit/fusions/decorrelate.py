"""Decorrelated rubrics (RRD, arXiv 2602.05125; algorithms.md 4.14): rubrics that say the same share their weight.

With Sigma the correlation matrix of the rubric channels' sums over the batch's trajectories:

    w = Sigma^(-1/2) 1, negative entries 0, divided by their sum;    r = sum over c of w_c r_c, score by score

"Whitened uniform", which needs no labels. Sigma is that of the trajectories of which every rubric is known; ridge I is
added to it. A rubric that is the same for all is taken to be correlated with none; with fewer than two complete
trajectories all weights are equal. A score is masked if that of one rubric is. Correlations, not covariances, so that a
rubric on a wider scale has no less weight; ridge and the bound at 0 are our choice.
"""

# ruff: noqa: RUF009

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, TurnRewards
from turnwise.credit.channel import Channel, channel_of, sums, with_channel
from turnwise.errors import UserError

_CONSTANT = 1e-12


@dataclass
class DecorrelateConfig:
    """Options of `decorrelate`."""

    channels: list[str] = key([], "channels of the rubrics, at least two, which go into the new one")
    into: str = key("rubric", "the channel that is made")
    ridge: float = key(1e-3, "added to the diagonal of the correlation matrix", above=0)


class Decorrelate:
    """The fusion `decorrelate`."""

    Config = DecorrelateConfig
    channel_options = ("channels",)
    folded_options = ("channels",)
    made_options = ("into",)

    def __init__(self, config: DecorrelateConfig) -> None:
        """Take the options; UserError for fewer than two channels or one named twice."""
        self.config = config
        if len(set(config.channels)) < max(2, len(config.channels)):
            raise UserError("channels", config.channels, "correlation needs two different channels", "use [a, b]")

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the rubrics brought together into one channel."""
        values, known = sums(rewards, self.config.channels)
        weights = whitened_uniform(correlation(values[known.all(axis=1)]), self.config.ridge)
        weights = np.maximum(weights, 0.0) / np.maximum(weights, 0.0).sum()
        rubrics = [channel_of(rewards, name) for name in self.config.channels]
        made = Channel(
            turn=np.tensordot(weights, [rubric.turn for rubric in rubrics], axes=1),
            turn_mask=np.logical_and.reduce([rubric.turn_mask for rubric in rubrics]),
            outcome=np.tensordot(weights, [rubric.outcome for rubric in rubrics], axes=1),
            outcome_mask=np.logical_and.reduce([rubric.outcome_mask for rubric in rubrics]),
        )
        return with_channel(rewards, self.config.into, made)


def whitened_uniform(sigma: Array, ridge: float) -> Array:
    """Return [C] (sigma + ridge I)^(-1/2) 1 of a symmetric matrix; its sum is above 0, single entries may not be."""
    eigenvalues, vectors = np.linalg.eigh(sigma + ridge * np.eye(len(sigma)))
    return np.asarray(vectors @ (vectors.sum(axis=0) / np.sqrt(np.maximum(eigenvalues, _CONSTANT))))


def correlation(values: Array) -> Array:
    """Return [C, C] the correlations of columns; 1 on the diagonal, 0 with a column that is constant."""
    centred = values - values.mean(axis=0) if len(values) > 1 else np.zeros((1, values.shape[1]))
    lengths = np.sqrt((centred**2).sum(axis=0))
    unit = np.where(lengths > _CONSTANT, centred / np.where(lengths > _CONSTANT, lengths, 1.0), 0.0)
    found = np.asarray(unit.T @ unit)
    np.fill_diagonal(found, 1.0)
    return found
