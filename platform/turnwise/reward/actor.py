"""`RewardActor`: the shell that makes a reward host a Ray actor. No logic of its own, and no import of ray.

`turnwise.scorers` wraps it in `ray.remote` and starts it as `reward:<name>:i`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnwise.config.plugins import build_plugin
from turnwise.config.schema import ScoringConfig
from turnwise.records import Group, Score
from turnwise.reward import Start
from turnwise.reward.host import RewardHost
from turnwise.sandbox.actor import lease_from

MAX_CONCURRENCY = 1000
"""Calls of one actor that may be in progress at once (Ray's `max_concurrency`): groups queue in the host."""


class RewardActor:
    """One scorer in a process of its own."""

    def __init__(
        self,
        *,
        name: str,
        scorer: Mapping[str, Any],
        timeout_s: float,
        scoring: ScoringConfig | None = None,
        start_s: float = 300.0,
        update_s: float = 1800.0,
        sandboxes: Sequence[str] = (),
    ) -> None:
        """Build the scorer from its section `{name: ..., options}`; UserError.

        `sandboxes` names the pools that it gets its sandboxes from, if it has any; none: it opens them here.
        """
        lease_from(sandboxes, name)
        kind, config = build_plugin("scorer", dict(scorer))
        self._host = RewardHost(name, kind(config), timeout_s, scoring, start_s=start_s, update_s=update_s)

    async def score(self, group: Group) -> tuple[Score, ...]:
        """Return the scores of a group; masked where the scorer failed."""
        return await self._host.score(group)

    async def begin(self, start: Start, folder: str | None = None) -> None:
        """Tell a scorer that asks for it how the run starts, and have it go on from a folder; once a process."""
        await self._host.begin(start, Path(folder) if folder is not None else None)

    async def update(self, groups: Sequence[Group], key: int | str) -> dict[str, float]:
        """Let the scorer learn from the groups of one policy update and return its metrics; once a key."""
        return await self._host.update(groups, key)

    async def save(self, folder: str) -> None:
        """Write the state of a scorer that learns into a folder; doing it twice is harmless."""
        await self._host.save(Path(folder))

    async def load(self, folder: str) -> None:
        """Go on from what `save` wrote."""
        await self._host.load(Path(folder))

    async def ping(self) -> int:
        """Return the process id: the process lives and its event loop turns."""
        return os.getpid()

    async def status(self) -> dict[str, Any]:
        """Return the host's counts, and its process."""
        return {**self._host.status(), "pid": os.getpid()}

    async def shutdown(self) -> None:
        """Let the scorer's threads end, and have it give back what it holds."""
        await self._host.close()
