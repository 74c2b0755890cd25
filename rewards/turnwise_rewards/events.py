"""The scorer `events`: the environment's own rewards as scores, channel by channel.

`outcome` events become one score of the whole trajectory, 0 if a complete episode emitted none. Every other channel
becomes one score for each turn that emitted it; a turn without one has no such score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from turnwise.records import Group, Score, Trajectory, Turn

OUTCOME = "outcome"


@dataclass
class EventsConfig:
    """The scorer has no options."""


class EventsScorer:
    """Sums events; nothing is judged here."""

    Config: ClassVar[type] = EventsConfig
    version = 0
    channels: tuple[str, ...] = ()

    def __init__(self, config: EventsConfig) -> None:
        """Take the (empty) options."""

    def score(self, group: Group) -> Sequence[Score]:
        """Return the scores of all trajectories of a group, in order."""
        return [score for trajectory in group.trajectories for score in _scores(trajectory)]


def _scores(trajectory: Trajectory) -> Iterator[Score]:
    outcome = trajectory.events_by_channel.get(OUTCOME, 0.0)
    yield Score(trajectory_id=trajectory.trajectory_id, channel=OUTCOME, value=outcome, source="events")
    for index, turn in enumerate(trajectory.turns):
        for channel, value in _by_channel(turn).items():
            if channel != OUTCOME:
                yield Score(
                    trajectory_id=trajectory.trajectory_id, channel=channel, value=value, turn=index, source="events"
                )


def _by_channel(turn: Turn) -> dict[str, float]:
    sums: dict[str, float] = {}
    for event in turn.events:
        sums[event.channel] = sums.get(event.channel, 0.0) + event.value
    return sums
