"""The store as a Ray actor named `store`: a thin shell, all logic is in `Store`.

Started by the controller. Writes are idempotent (their key is the update's number or the evaluation's tag), so Ray may
run one again after it restarted the actor. Writes come one after another; queries and pings do not wait for them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from turnwise.records import Group, Trajectory
from turnwise.store.store import Store

NAME = "store"


class StoreActor:
    """Owns one `Store`; the methods are those of `Store`, awaitable."""

    def __init__(self, folder: str) -> None:
        """Take the run folder."""
        self._store = Store(folder)
        self._writing = asyncio.Lock()

    async def ping(self) -> int:
        """Return the process id: the actor lives."""
        return os.getpid()

    async def append(self, update: int, groups: Sequence[Group], failed: Sequence[Trajectory] = ()) -> int:
        """Store an update; returns its number."""
        async with self._writing:
            await asyncio.to_thread(self._store.append, update, groups, failed)
        return update

    async def append_eval(
        self, tag: str, groups: Sequence[Group], update: int = 0, failed: Sequence[Trajectory] = ()
    ) -> str:
        """Store an evaluation; returns its tag."""
        async with self._writing:
            await asyncio.to_thread(self._store.append_eval, tag, groups, update=update, failed=failed)
        return tag

    async def truncate_after(self, update: int) -> tuple[str, ...]:
        """Remove later updates; returns what was removed."""
        async with self._writing:
            return await asyncio.to_thread(self._store.truncate_after, update)

    async def query(self, sql: str, with_ids: bool = False) -> pa.Table:
        """Return the result of SQL."""
        return await asyncio.to_thread(self._store.query, sql, with_ids=with_ids)


def start_store(folder: str, *, name: str = NAME) -> Any:
    """Start the actor in the current Ray session and return its handle; it is ready once `ping` answers."""
    options = {"name": name, "num_cpus": 0, "max_restarts": 4, "max_task_retries": 2, "max_concurrency": 8}
    return ray.remote(StoreActor).options(**options).remote(folder)
