"""Rewards: what a scorer must offer. A scorer judges a group of trajectories; a reward actor hosts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from turnwise.records import Group, Score


class Scorer(Protocol):
    """Judges the trajectories of one group. May block: it runs in a thread of its reward actor."""

    version: int  # of the model inside; 0 for one that does not change
    channels: tuple[str, ...]  # the channels it writes; empty: whatever the environment emits

    def score(self, group: Group) -> Sequence[Score]:
        """Return scores for the group's trajectories; whatever it raises masks all of them."""
