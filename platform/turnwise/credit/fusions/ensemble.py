"""Ensemble: several judges of the same thing become one channel (arXiv 2312.09244, 2310.02743).

Score by score, over the C channels of the judges:

    mean           mean_c r_c
    min            min_c r_c
    mean_std       mean_c r_c - penalty std_c r_c
    mean_variance  mean_c r_c - penalty var_c r_c      (uncertainty-weighted)

with the population's standard deviation and variance. What the judges disagree on is paid less; an error that they
share is not found. A score is masked if one of the judges' is. Judges on different scales must be brought to one first.
"""

# ruff: noqa: RUF009

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, TurnRewards
from turnwise.credit.channel import Channel, channel_of, with_channel
from turnwise.errors import UserError

HOW = ("mean", "min", "mean_std", "mean_variance")


@dataclass
class EnsembleConfig:
    """Options of `ensemble`."""

    channels: list[str] = key([], "channels of the judges, at least two, which go into the new one")
    into: str = key("ensemble", "the channel that is made")
    how: str = key("mean", "mean, min, mean_std or mean_variance", one_of=HOW)
    penalty: float = key(1.0, "what disagreement costs", only_if=("how", ("mean_std", "mean_variance")), above=0)


class Ensemble:
    """The fusion `ensemble`."""

    Config = EnsembleConfig
    channel_options = ("channels",)
    folded_options = ("channels",)
    made_options = ("into",)

    def __init__(self, config: EnsembleConfig) -> None:
        """Take the options; UserError for fewer than two channels or one named twice."""
        self.config = config
        if len(set(config.channels)) < max(2, len(config.channels)):
            raise UserError("channels", config.channels, "an ensemble needs two different channels", "use [a, b]")

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the judges' channels brought together into one."""
        judges = [channel_of(rewards, name) for name in self.config.channels]
        made = Channel(
            turn=self._together([judge.turn for judge in judges]),
            turn_mask=np.logical_and.reduce([judge.turn_mask for judge in judges]),
            outcome=self._together([judge.outcome for judge in judges]),
            outcome_mask=np.logical_and.reduce([judge.outcome_mask for judge in judges]),
        )
        return with_channel(rewards, self.config.into, made)

    def _together(self, scores: list[Array]) -> Array:
        if self.config.how == "min":
            return np.min(scores, axis=0)
        mean = np.mean(scores, axis=0)
        if self.config.how == "mean":
            return mean
        spread = np.std(scores, axis=0) if self.config.how == "mean_std" else np.var(scores, axis=0)
        return np.asarray(mean - self.config.penalty * spread)
