"""Preference as reward (PAR, arXiv 2502.18770; algorithms.md 4.9): how far a score beats reference scores, bounded.

With r the sum of a trajectory's scores and r_1 .. r_M those of references for the same task:

    R = (1/M) sum over m of sigma(k (r - r_m))

in (0, 1), steep around the references and flat beyond, where a reward model is easily fooled. R becomes the score of
the whole trajectory, scores by turn become 0. The references are

- channels, each of which gives one reference's score with every trajectory (of a fixed model's answers, say), or
- with no channels the other trajectories of the group whose score is known: R is then an estimate of how likely the
  trajectory is preferred to another of its group. One without any other is masked.

A masked reference score masks the reward. Do not normalise R by a standard deviation afterwards.
"""

# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.channel import sums, total, whole, with_channel


@dataclass
class PreferenceConfig:
    """Options of `preference`."""

    channel: str = key("outcome", "the channel that is changed")
    references: list[str] = key([], "channels of reference scores, which go into it; none: the others of the group")
    k: float = key(1.0, "steepness", above=0)


class Preference:
    """The fusion `preference`."""

    Config = PreferenceConfig
    channel_options = ("channel", "references")
    folded_options = ("references",)

    def __init__(self, config: PreferenceConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config, self.needs_group = config, not config.references

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with each trajectory's preference over its references."""
        values, known = total(rewards, self.config.channel)
        if self.config.references:
            references, is_reference = sums(rewards, self.config.references)
            known = known & is_reference.all(axis=1)
        else:
            references, is_reference = others(values, known, rewards.group)
            known = known & is_reference.any(axis=1)
        found = preference(values, references, is_reference, k=self.config.k)
        return with_channel(rewards, self.config.channel, whole(rewards, found, known))


def preference(values: Array, references: Array, is_reference: Mask, *, k: float) -> Array:
    """Return [N] the mean over a row's references, [N, M], of sigma(k (value - reference)); 0 without any."""
    beaten = 0.5 * (1.0 + np.tanh(0.5 * k * (values[:, None] - references)))
    counts = np.maximum(is_reference.sum(axis=1), 1)
    return np.asarray(np.where(is_reference, beaten, 0.0).sum(axis=1) / counts)


def others(values: Array, known: Mask, group: Sequence[str]) -> tuple[Array, Mask]:
    """Return [N, N] all values, and which of them are known and of another member of the row's group."""
    names = np.asarray(group, dtype=object)
    is_other = (names[:, None] == names[None, :]) & ~np.eye(len(names), dtype=bool) & known[None, :]
    return np.broadcast_to(values, is_other.shape), is_other
