"""The pools of sandboxes of a run, as the driver sees them: starts them, keeps them alive, says how they are.

The fleet owns one `Sandboxes`. What a pool that died had open has ended with it; episodes that used it are tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError

from turnwise.config.schema import SandboxConfig
from turnwise.remote import Watch, actor_class, ask
from turnwise.sandbox.actor import SandboxActor
from turnwise.sandbox.pooled import pool_names

CLOSE_S = 8.0
"""Seconds that a pool has to close its sandboxes before it is ended, and they with it."""

COUNTS = (
    "open", "leased", "ready", "waiting", "starts", "failed_starts", "leases", "expired", "replaced", "reset", "leaks",
    "orphans",
)  # fmt: skip
"""What of a pool's status is a metric, added up over the pools."""

LONGEST = ("start_p50_s", "start_p95_s", "lease_p50_s", "lease_p95_s")
"""What of it is the longest of all pools."""


class Sandboxes:
    """All pools of a run."""

    def __init__(self, config: SandboxConfig, watch: Watch, *, plays: bool = True) -> None:
        """Create the actors, none unless `plays`."""
        self._watch = watch
        names = pool_names(config) if plays else []
        self.actors: dict[str, Any] = {name: actor_class(SandboxActor, name).remote(config) for name in names}
        self._statuses: dict[str, Mapping[str, Any]] = {}  # the last that each gave

    async def look(self) -> None:
        """Replace what hangs, and take note of the others."""
        await asyncio.gather(*(self._look_at(name) for name in self.actors))

    def metrics(self) -> dict[str, float]:
        """Return the last look as metrics; nothing where there are no pools."""
        statuses = list(self._statuses.values())
        if not statuses:
            return {}
        sums = {f"sandbox/{name}": float(sum(status[name] for status in statuses)) for name in COUNTS}
        return sums | {f"sandbox/{name}": float(max(status[name] for status in statuses)) for name in LONGEST}

    async def close(self) -> None:
        """Have the pools close what they have, for `CLOSE_S`."""
        closing = (self._shut(actor) for actor in self.actors.values())
        await asyncio.gather(*closing)

    async def _look_at(self, name: str) -> None:
        status = await ask(self.actors[name].status.remote())
        if status:
            self._statuses[name] = status
        if self._watch.is_hung(name, status):
            self._watch.replace(name, self.actors[name])

    async def _shut(self, actor: Any) -> None:
        with suppress(RayError, TimeoutError):
            await asyncio.wait_for(actor.shutdown.remote(), CLOSE_S)
