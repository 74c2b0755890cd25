"""Which episodes of one group succeeded, for selections that treat right and wrong ones differently.

The same rules as for rewards: a masked score is unknown, an episode without a score on the channel has 0.
"""

from __future__ import annotations

from turnwise.credit import SelectionSettings
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


def check_channel(field: str, channel: str, settings: SelectionSettings) -> None:
    """Raise UserError for a channel without scores: one that a fusion makes later, or that is not in `credit.channels`.

    One of `credit.channels` that is never scored is noticed.
    """
    if channel not in settings.channels:
        remedy = f"{suggestion(channel, sorted(settings.channels))} Or add {channel}: 0.0 to credit.channels"
        raise UserError(field, channel, "credit.channels has no such channel", remedy)
    if channel in settings.made:
        problem = "a fusion makes this channel, and selections come before fusions"
        raise UserError(field, channel, problem, "name a channel that a scorer gives")
