"""Tiers of SSL (arXiv 2601.22491; algorithms.md 4.8): correctness ranks first, nearness within it.

With C the correctness, 0 or 1, and x the proximity of the trajectory in [0, 1], cut into K equal zones:

    R = C + alpha tier / K,    tier = ceil(K x)

The bonus is added to the trajectory's outcome; alpha < 1 keeps any correct one above any incorrect one. Proximity by
step is first brought to one number (`aggregate`). A masked proximity masks the outcome. JudgeError for a proximity
outside [0, 1]. alpha 0.5 is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.channel import by_turn, channel_of, check_range, with_channel

AGGREGATES = ("sum", "mean", "max")
"""How a trajectory's scores become one number; the score of the whole is part of the last turn's."""

_ROUNDING = 1e-9


@dataclass
class TiersConfig:
    """Options of `tiers`."""

    outcome: str = key("outcome", "the channel of correctness, 0 or 1, to which the bonus is added")
    proximity: str = key("proximity", "the channel of nearness in [0, 1]; it goes into the outcome")
    aggregate: str = key("sum", "how scores by turn become one number: sum, mean or max", one_of=AGGREGATES)
    num_tiers: int = key(4, "equal zones of proximity", at_least=1)
    alpha: float = key(0.5, "bonus of the best tier", above=0, below=1)


class Tiers:
    """The fusion `tiers`."""

    Config = TiersConfig
    channel_options = ("outcome", "proximity")
    folded_options = ("proximity",)

    def __init__(self, config: TiersConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the bonus of its tier added to each outcome."""
        config = self.config
        proximity, known = aggregated(rewards, config.proximity, config.aggregate)
        check_range(rewards, config.proximity, proximity, known, low=-_ROUNDING, high=1.0 + _ROUNDING)
        bonus = config.alpha * tier(proximity, config.num_tiers) / config.num_tiers
        channel = channel_of(rewards, config.outcome).plus_outcome(bonus, known)
        return with_channel(rewards, config.outcome, channel)


def tier(proximity: Array, num_tiers: int) -> Array:
    """Return [N] the zone of each proximity in [0, 1], counted from 1; 0 for a proximity of 0."""
    return np.clip(np.ceil(num_tiers * proximity - _ROUNDING), 0.0, num_tiers)


def aggregated(rewards: TurnRewards, name: str, aggregate: str) -> tuple[Array, Mask]:
    """Return [N] one number of each trajectory's scores, and whether all of them are known; 0 if not."""
    values, known = by_turn(rewards, name)
    is_part = rewards.turn_exists
    is_part[:, 0] = True  # where the score of a trajectory without turns stands
    if aggregate == "max":
        found = np.where(is_part, values, -np.inf).max(axis=1)
    else:
        found = values.sum(axis=1) / (is_part.sum(axis=1) if aggregate == "mean" else 1.0)
    all_known: Mask = np.asarray(known.all(axis=1))
    return np.asarray(np.where(all_known, found, 0.0)), all_known
