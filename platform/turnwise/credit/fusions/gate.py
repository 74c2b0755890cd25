"""Gated reward accumulation (G-RA, arXiv 2508.10548; algorithms.md 4.2): lesser rewards count if the great ones pass.

Channels stand in levels, the highest priority last. With R^h the sum of all scores of level h over the trajectory and
v_h its threshold, every score of level l is multiplied by

    prod over h > l of 1[R^h > v_h]

for all turns of the trajectory, also those before the gate was decided: an episode that ends without a result keeps
nothing for well-formed calls. The highest level is not gated. The sums are of the scores as given, not weighted, so a
channel of weight 0 can be a gate. If a score of a higher level is masked, all lower ones are.

A gate on an outcome makes the rewards of a group in which all fail equal: such a group teaches nothing.
"""

# ruff: noqa: RUF009

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.channel import channel_of, sums, with_channel
from turnwise.errors import UserError


@dataclass
class GateConfig:
    """Options of `gate`."""

    levels: list[list[str]] = key([], "lists of channels, the highest priority last: [[format, tool], [outcome]]")
    thresholds: list[float] = key(
        [], "of each level but the first, which it must exceed for the levels before it to count; none: 0 for all"
    )


class Gate:
    """The fusion `gate`."""

    Config = GateConfig
    channel_options = ("levels",)

    def __init__(self, config: GateConfig) -> None:
        """Take the options; UserError for levels or thresholds that do not go together."""
        self.config = config
        levels, gates = config.levels, len(config.levels) - 1
        if len(levels) < 2 or not all(levels):
            raise UserError("levels", levels, "a gate needs two levels of channels", "use [[format], [outcome]]")
        named = [name for level in levels for name in level]
        if len(set(named)) < len(named):
            raise UserError("levels", levels, "a channel stands in two places", "name each once")
        if config.thresholds and len(config.thresholds) != gates:
            raise UserError("thresholds", config.thresholds, f"{gates} levels are gates", "give one for each, or none")

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards in which a level counts where all higher ones pass."""
        levels = self.config.levels
        thresholds = [0.0, *(self.config.thresholds or [0.0] * (len(levels) - 1))]
        is_open, known = np.ones(len(rewards.group), dtype=bool), np.ones(len(rewards.group), dtype=bool)
        fused = rewards
        for level, threshold in zip(levels[::-1], thresholds[::-1], strict=True):
            for name in level:
                fused = with_channel(fused, name, channel_of(rewards, name).scaled(is_open.astype(np.float64), known))
            values, level_known = sums(rewards, level)
            is_open = is_open & (values.sum(axis=1) > threshold)
            known = known & level_known.all(axis=1)
        return fused
