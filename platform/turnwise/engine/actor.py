"""`EngineActor`: the shell that makes an engine a Ray actor. No logic of its own, and no import of ray.

The fleet wraps it in `ray.remote` and starts it as `engine:i`, with `turnwise.cluster.actor_env` as the environment of
its process; clients talk to it through `turnwise.engine.client.EngineClient`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from turnwise.engine import Engine, Request, WeightReceipt
from turnwise.engine.loop import Result
from turnwise.engine.sessions import Roster, SessionLedger
from turnwise.models import loading
from turnwise.registry import lookup

MAX_CONCURRENCY = 1000
"""Calls of one actor that may be in progress at once (Ray's `max_concurrency`): streams of many clients."""


class EngineActor:
    """One engine in a process of its own."""

    def __init__(
        self,
        *,
        name: str,
        options: Mapping[str, Any],
        model_path: str,
        dtype: str = "float32",
        lockstep: bool = False,
        waits_for_weights: bool = False,
    ) -> None:
        """Build the engine registered as `name` with `options` for its `Config`; UserError.

        With `waits_for_weights` nothing is sampled before the first proven update: an actor that Ray has started again
        holds the weights of its model folder, not those of the run.
        """
        with loading():
            kind = lookup("engine", name, field="engine.name")
            self._engine: Engine = kind(kind.Config(**options), model_path, dtype=dtype, lockstep=lockstep)
        self._ledger = SessionLedger()
        self._num_calls = 0
        self._is_proven = asyncio.Event()
        if not waits_for_weights:
            self._is_proven.set()

    async def generate(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
        """Bring the client's sessions up to date, then stream results; see `Engine.generate`."""
        self._num_calls += 1
        self._apply(roster)
        await self._is_proven.wait()
        async for chunk in self._engine.generate(requests):
            yield chunk

    async def announce(self, roster: Roster) -> None:
        """Bring the client's sessions up to date."""
        self._num_calls += 1
        self._apply(roster)

    async def update_weights(self, version: int, checksum: str, state: Mapping[str, np.ndarray]) -> WeightReceipt:
        """Load weights and prove it; see `Engine.update_weights`."""
        receipt = await self._engine.update_weights(version, checksum, state)
        self._is_proven.set()
        return receipt

    async def status(self) -> dict[str, Any]:
        """Return the engine's status, the number of calls that clients have made, and whether it may sample."""
        return {**self._engine.status(), "calls": self._num_calls, "is_proven": self._is_proven.is_set()}

    async def ping(self) -> int:
        """Return the process id: the process lives and its event loop turns."""
        return os.getpid()

    async def shutdown(self) -> None:
        """Stop sampling."""
        self._engine.shutdown()

    def _apply(self, roster: Roster) -> None:
        opened, closed = self._ledger.apply(roster)
        # in this order: a barrier that saw the old session go before the new one came would not wait for it
        self._engine.open(opened)
        self._engine.close(closed)
