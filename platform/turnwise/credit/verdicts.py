"""Which episodes of one group succeeded, for selections that treat right and wrong ones differently.

The same rules as for rewards: a masked score is unknown, an episode without a score on the channel has 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from turnwise.credit.returns import trajectory_scores
from turnwise.credit.rewards import turn_rewards
from turnwise.errors import UserError
from turnwise.records import Group
from turnwise.registry import suggestion


def verdicts(group: Group, channel: str, threshold: float) -> dict[int, bool | None]:
    """Return by `Trajectory.index` whether the channel's sum exceeds `threshold`; None where it is unknown."""
    values, known = trajectory_scores(turn_rewards([group], {channel: 1.0}, [channel]), channel)
    members = enumerate(group.trajectories)
    return {member.index: bool(values[row] > threshold) if known[row] else None for row, member in members}


def check_channel(field: str, channel: str, channels: Mapping[str, float]) -> None:
    """Raise UserError for a channel that is not in `credit.channels`, where one that is never scored is noticed."""
    if channel not in channels:
        remedy = f"{suggestion(channel, sorted(channels))} Or add {channel}: 0.0 to credit.channels"
        raise UserError(field, channel, "credit.channels has no such channel", remedy)
