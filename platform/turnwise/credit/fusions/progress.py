"""Stepwise progress (SPA-RL, arXiv 2505.20732; algorithms.md 4.1): a turn's share of the outcome, and whether it acted.

With c_k the contribution that a progress estimator gives turn k, and g_k = 1 where the environment carried the action
out, score by score:

    r_k = alpha c_k + beta g_k

A turn is masked if either is. The outcome's channel should have weight 0 then: the contributions sum to an estimate of
it, and both would count it twice. (The released data script puts the outcome minus the mean of the others' in the place
of every c_k, which is what `rloo` does, and its trainer gives the last turn weight 0: neither is done here.)
"""

from __future__ import annotations

from dataclasses import dataclass

from turnwise.config.schema import key
from turnwise.credit import Array, TurnRewards
from turnwise.credit.channel import Channel, channel_of, with_channel


@dataclass
class ProgressConfig:
    """Options of `progress`."""

    contribution: str = key("contribution", "the channel of contributions by turn; it goes into the new one")
    grounded: str = key("grounded", "the channel that is 1 where an action was carried out; it goes into the new one")
    into: str = key("progress", "the channel that is made")
    alpha: float = key(1.0, "weight of contributions", at_least=0)
    beta: float = key(0.5, "weight of grounding", at_least=0)


class Progress:
    """The fusion `progress`."""

    Config = ProgressConfig
    channel_options = ("contribution", "grounded")
    folded_options = ("contribution", "grounded")
    made_options = ("into",)

    def __init__(self, config: ProgressConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with contributions and grounding brought together into one channel."""
        given, grounded = (channel_of(rewards, name) for name in (self.config.contribution, self.config.grounded))
        made = Channel(
            turn=self._together(given.turn, grounded.turn),
            turn_mask=given.turn_mask & grounded.turn_mask,
            outcome=self._together(given.outcome, grounded.outcome),
            outcome_mask=given.outcome_mask & grounded.outcome_mask,
        )
        return with_channel(rewards, self.config.into, made)

    def _together(self, contribution: Array, grounded: Array) -> Array:
        return self.config.alpha * contribution + self.config.beta * grounded
