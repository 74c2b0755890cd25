"""`RewardActor`: the shell that makes a reward host a Ray actor. No logic of its own, and no import of ray.

The fleet wraps it in `ray.remote` and starts it as `reward:<name>:i`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from turnwise.config.plugins import build_plugin
from turnwise.records import Group, Score
from turnwise.reward.host import RewardHost

MAX_CONCURRENCY = 1000
"""Calls of one actor that may be in progress at once (Ray's `max_concurrency`): groups queue in the host."""


class RewardActor:
    """One scorer in a process of its own."""

    def __init__(self, *, name: str, scorer: Mapping[str, Any], timeout_s: float) -> None:
        """Build the scorer from its section `{name: ..., options}`; UserError."""
        kind, config = build_plugin("scorer", dict(scorer))
        self._host = RewardHost(name, kind(config), timeout_s)

    async def score(self, group: Group) -> tuple[Score, ...]:
        """Return the scores of a group; masked where the scorer failed."""
        return await self._host.score(group)

    async def ping(self) -> int:
        """Return the process id: the process lives and its event loop turns."""
        return os.getpid()

    async def status(self) -> dict[str, Any]:
        """Return the host's counts, and its process."""
        return {**self._host.status(), "pid": os.getpid()}

    async def shutdown(self) -> None:
        """Let the scorer's thread end."""
        self._host.close()
