"""Annealing: a channel's weight goes from its own to a share of it over the updates (Trust-GRPO, arXiv 2505.17018).

With u the number of updates done, p = clip((u - start) / over, 0, 1) and f the final share, the weight is multiplied by

    linear       1 + (f - 1) p
    cosine       f + (1 - f) (1 + cos(pi p)) / 2
    exponential  f + (1 - f) exp(-max(0, u - start) / over)

Scores and masks are left as they are. At a weight of exactly 0 the channel has no part in the run any more, and a
masked score on it no longer keeps a turn out of training, unless the estimator names the channel. A resumed run goes on
with the update it is at.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.channel import channel_of

SCHEDULES = ("linear", "cosine", "exponential")


@dataclass
class AnnealConfig:
    """Options of `anneal`."""

    channel: str = key("process", "the channel whose weight changes")
    schedule: str = key("linear", "how it changes: linear, cosine or exponential", one_of=SCHEDULES)
    start: int = key(0, "updates before the change begins", at_least=0)
    over: int = key(100, "updates that it takes; exponential: until it is down to 1/e", at_least=1)
    final: float = key(0.0, "share of the weight that is left in the end", at_least=0)


class Anneal:
    """The fusion `anneal`."""

    Config = AnnealConfig
    channel_options = ("channel",)
    weighted_options = ("channel",)

    def __init__(self, config: AnnealConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the channel's weight of this update."""
        name = self.config.channel
        channel_of(rewards, name)
        weight = rewards.weights[name] * self.share(rewards.update)
        return dataclasses.replace(rewards, weights={**rewards.weights, name: weight})

    def share(self, update: int) -> float:
        """Return the factor of the weight after so many updates."""
        final, done = self.config.final, max(0.0, (update - self.config.start) / self.config.over)
        if self.config.schedule == "exponential":
            return final + (1.0 - final) * math.exp(-done)
        if self.config.schedule == "cosine":
            return final + (1.0 - final) * (1.0 + math.cos(math.pi * min(1.0, done))) / 2.0
        return 1.0 + (final - 1.0) * min(1.0, done)
