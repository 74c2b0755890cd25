"""Overlong: a soft penalty on length, on a channel of its own (DAPO, arXiv 2503.14476).

With L the tokens that the policy wrote (observations and prompts are not counted), `max_tokens` and `buffer`:

    0 up to max_tokens - buffer, then falling linearly by `factor` over the buffer, see `overlong_penalty`

- scope `trajectory`: L is the sum over all turns, the penalty is a score of the whole trajectory;
- scope `turn`: each turn's own L and penalty.

`credit.channels` weighs it (1.0 adds it to the outcome). It is never masked: lengths are always known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, TurnRewards
from turnwise.credit.channel import SCOPES, Channel, whole, with_channel
from turnwise.errors import UserError


@dataclass
class OverlongConfig:
    """Options of `overlong`."""

    into: str = key("overlong", "the channel that is made")
    max_tokens: int = key(1024, "tokens of the policy at which the penalty is whole", at_least=1)
    buffer: int = key(256, "tokens before that over which it grows", at_least=1)
    factor: float = key(1.0, "the whole penalty", above=0)
    is_bounded: bool = key(True, "whether the penalty ends at factor; else it grows on behind max_tokens")
    scope: str = key("trajectory", "whose tokens are counted: trajectory or turn", one_of=SCOPES)


class Overlong:
    """The fusion `overlong`."""

    Config = OverlongConfig
    made_options = ("into",)

    def __init__(self, config: OverlongConfig) -> None:
        """Take the options; UserError if the buffer is longer than the limit."""
        self.config = config
        if config.buffer > config.max_tokens:
            problem = f"is longer than max_tokens={config.max_tokens}, so nothing would be short enough"
            raise UserError("buffer", config.buffer, problem, f"use at most {config.max_tokens}")

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the penalties on their channel."""
        config, exists = self.config, rewards.turn_exists
        lengths = np.where(exists, rewards.num_tokens, 0).astype(np.float64)
        if config.scope == "trajectory":
            lengths = lengths.sum(axis=1)
        penalty = overlong_penalty(lengths, config.max_tokens, config.buffer, config.factor, config.is_bounded)
        everyone, nothing = np.ones(len(exists), dtype=bool), np.zeros(len(exists))
        made = (
            whole(rewards, penalty, everyone)
            if config.scope == "trajectory"
            else Channel(turn=penalty, turn_mask=exists, outcome=nothing, outcome_mask=everyone)
        )
        return with_channel(rewards, config.into, made)


def overlong_penalty(lengths: Array, max_tokens: int, buffer: int, factor: float, is_bounded: bool) -> Array:
    """Return DAPO's soft penalty of each length (arXiv 2503.14476, equation 13), from 0 down to -factor.

    0 up to max_tokens - buffer, -factor (length - (max_tokens - buffer)) / buffer from there on. Not bounded, it falls
    on behind max_tokens, as in the released code; the paper's ends at -factor.
    """
    excess = (lengths - (max_tokens - buffer)) / buffer
    return -factor * np.clip(excess, 0.0, 1.0 if is_bounded else np.inf)
