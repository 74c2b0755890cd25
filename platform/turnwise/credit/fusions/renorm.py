"""ReNorm of PPR (arXiv 2509.25598; algorithms.md 4.3): process scores that never outbid the outcome.

With r_p the process score of a turn, in [0, 1], and r_o the outcome's sum over the trajectory, the process channel gets

    r_p + r_o - beta    at every turn but the last,    0 at the last

and the outcome stays where it is, so that the last turn has the outcome alone. With beta 1 a process reward is in
[-1, 0] after a failure and in [0, 1] after a success. A turn without a process score has r_p = 0; a trajectory of one
turn has its outcome only. A masked outcome masks all process scores of its trajectory. A process score of a whole
trajectory is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnRewards
from turnwise.credit.channel import Channel, channel_of, total, with_channel
from turnwise.errors import UserError


@dataclass
class RenormConfig:
    """Options of `renorm`."""

    process: str = key("process", "the channel of scores by turn that is changed")
    outcome: str = key("outcome", "the channel of the outcome, left as it is")
    beta: float = key(1.0, "what is subtracted: the outcome of a success")


class Renorm:
    """The fusion `renorm`."""

    Config = RenormConfig
    channel_options = ("process", "outcome")
    weighted_options = ("process",)

    def __init__(self, config: RenormConfig) -> None:
        """Take the options; UserError if process scores and outcome are one channel."""
        self.config = config
        if config.process == config.outcome:
            raise UserError("process", config.process, "is the outcome too, which is left as it is", "name another")

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the process channel renormalised by the outcome."""
        process = channel_of(rewards, self.config.process)
        outcome, known = total(rewards, self.config.outcome)
        is_final = np.arange(process.turn.shape[1])[None, :] >= np.asarray(rewards.num_turns)[:, None] - 1
        renormed = Channel(
            turn=np.where(is_final, 0.0, process.turn + outcome[:, None] - self.config.beta),
            turn_mask=process.turn_mask & known[:, None],
            outcome=process.outcome,
            outcome_mask=process.outcome_mask,
        )
        return with_channel(rewards, self.config.process, renormed)
