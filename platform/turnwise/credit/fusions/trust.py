"""Trust: a judge's scores weighted by how far they may be believed.

The trust channel holds a confidence in [0, 1], given by a scorer beside its scores:

- scope `turn`: r_k := t_k r_k, turn by turn; scores of whole trajectories are left as they are, and a score of a turn
  without a confidence counts nothing;
- scope `trajectory`: all scores of the channel are multiplied by the trajectory's trust.

A masked confidence masks what it weighs. For a trust that is measured instead of given, see `reliability`. JudgeError
for a confidence outside [0, 1].
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.channel import SCOPES, channel_of, check_range, total, with_channel


@dataclass
class TrustConfig:
    """Options of `trust`."""

    channel: str = key("process", "the channel whose scores are weighted")
    trust: str = key("trust", "the channel of confidences; it goes into the other")
    scope: str = key("trajectory", "what a confidence is about: trajectory or turn", one_of=SCOPES)


class Trust:
    """The fusion `trust`."""

    Config = TrustConfig
    channel_options = ("channel", "trust")
    folded_options = ("trust",)

    def __init__(self, config: TrustConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the channel weighted by trust."""
        name, channel = self.config.channel, channel_of(rewards, self.config.channel)
        if self.config.scope == "trajectory":
            trust, known = total(rewards, self.config.trust)
            check_range(rewards, self.config.trust, trust, known, low=0.0, high=1.0)
            return with_channel(rewards, name, channel.scaled(trust, known))
        by_turn = channel_of(rewards, self.config.trust)
        check_range(rewards, self.config.trust, by_turn.turn, by_turn.turn_mask, low=0.0, high=1.0)
        turn, mask = channel.turn * by_turn.turn, channel.turn_mask & by_turn.turn_mask
        return with_channel(rewards, name, dataclasses.replace(channel, turn=turn, turn_mask=mask))
