"""Clip of a process reward (arXiv 2410.15115): a turn is marked down at most, never paid.

    r := min(r - eta, 0)    for every turn score of the channel

A sum over any number of turns is then at most 0, so that repeating good but useless turns earns nothing; eta is the
score from which on a turn is good enough. A turn without a score has 0 - eta. Scores of whole trajectories are left as
they are. With `delta` before or after it, in the order of `credit.fuse`. (Formula from notes on the paper.)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.channel import channel_of, with_channel


@dataclass
class ClipConfig:
    """Options of `clip`."""

    channel: str = key("process", "the channel of scores by turn")
    eta: float = key(0.0, "score that is good enough: it and all above become 0")


class Clip:
    """The fusion `clip`."""

    Config = ClipConfig
    channel_options = ("channel",)

    def __init__(self, config: ClipConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the channel's turn scores clipped; a masked one stays masked."""
        channel = channel_of(rewards, self.config.channel)
        clipped = np.minimum(channel.turn - self.config.eta, 0.0)
        return with_channel(rewards, self.config.channel, dataclasses.replace(channel, turn=clipped))
