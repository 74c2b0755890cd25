"""Constraints: a reward counts only where nothing that must hold is broken.

After the mixture of judges of CGPO (arXiv 2409.20370) and the gated aggregation of SearchLLM: channels of verdicts with
a threshold each, channels of objectives. Where any constraint's score is below its threshold,

    objectives' scores := 0, and `otherwise` once

- scope `trajectory`: the sum over the trajectory decides, all turn scores become 0, `otherwise` is the whole score;
- scope `turn`: a turn's score decides over that turn, whose score becomes `otherwise`; a turn without a verdict has
  the score 0. Scores of whole trajectories stay as they are.

A masked constraint masks what it decides over. To leave violators out of training instead would make what is trained
on depend on the actions, and is not offered. `gate` differs: it has priorities, and compares sums of whole levels.
"""

# ruff: noqa: RUF009

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.channel import SCOPES, Channel, channel_of, sums, with_channel
from turnwise.errors import UserError


@dataclass
class ConstrainConfig:
    """Options of `constrain`."""

    channels: list[str] = key(["outcome"], "objectives: channels that count only where all constraints hold")
    constraints: dict[str, float] = key({}, "by channel, the least score with which the constraint holds")
    otherwise: float = key(0.0, "score where a constraint is broken")
    scope: str = key("trajectory", "what is compared and replaced: trajectory or turn", one_of=SCOPES)


class Constrain:
    """The fusion `constrain`."""

    Config = ConstrainConfig
    channel_options = ("channels", "constraints")

    def __init__(self, config: ConstrainConfig) -> None:
        """Take the options; UserError without objectives or constraints."""
        self.config = config
        if not config.constraints:
            raise UserError("constraints", "{}", "nothing is required", "use {grounded: 1.0}, or remove the fusion")
        if not config.channels:
            raise UserError("channels", "[]", "no reward is constrained", "use [outcome]")

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards in which the objectives are replaced wherever a constraint is broken."""
        replaced = self._by_turn if self.config.scope == "turn" else self._by_trajectory
        fused = rewards
        for name in self.config.channels:
            fused = with_channel(fused, name, replaced(rewards, channel_of(rewards, name)))
        return fused

    def _by_trajectory(self, rewards: TurnRewards, channel: Channel) -> Channel:
        values, is_known = sums(rewards, list(self.config.constraints))
        holds: Mask = np.asarray((values >= list(self.config.constraints.values())).all(axis=1))
        known: Mask = np.asarray(is_known.all(axis=1))
        kept = channel.scaled(holds.astype(np.float64), known)
        return kept.plus_outcome(np.where(holds, 0.0, self.config.otherwise), known)

    def _by_turn(self, rewards: TurnRewards, channel: Channel) -> Channel:
        holds: Mask = np.ones(channel.turn.shape, dtype=bool)
        known = channel.turn_mask
        for name, least in self.config.constraints.items():
            verdict = channel_of(rewards, name)
            holds, known = holds & (verdict.turn >= least), known & verdict.turn_mask
        turn: Array = np.where(holds, channel.turn, self.config.otherwise)
        return Channel(turn=turn, turn_mask=known, outcome=channel.outcome, outcome_mask=channel.outcome_mask)
