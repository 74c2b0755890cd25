"""Delta of a process reward (arXiv 2410.15115): differences of successive turn scores, whose sum telescopes.

    r_k := r_k - r_(k+1)    and the last turn keeps its own

The return from turn k on is then r_k itself, however many turns follow: a score cannot be collected by going on. A
masked score masks its own turn and the one before. Scores of whole trajectories are left as they are. (Formula from
notes on the paper.)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.channel import channel_of, with_channel


@dataclass
class DeltaConfig:
    """Options of `delta`."""

    channel: str = key("process", "the channel of scores by turn")


class Delta:
    """The fusion `delta`."""

    Config = DeltaConfig
    channel_options = ("channel",)

    def __init__(self, config: DeltaConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the channel's turn scores as differences."""
        channel = channel_of(rewards, self.config.channel)
        turn, mask = channel.turn.copy(), channel.turn_mask.copy()
        turn[:, :-1] -= channel.turn[:, 1:]  # 0 behind the end
        mask[:, :-1] &= channel.turn_mask[:, 1:] | ~rewards.turn_exists[:, 1:]
        return with_channel(rewards, self.config.channel, dataclasses.replace(channel, turn=turn, turn_mask=mask))
