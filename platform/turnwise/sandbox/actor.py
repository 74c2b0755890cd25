"""`SandboxActor`: the shell that makes a pool of sandboxes a Ray actor, and what a holder in another process calls.

The fleet starts it as `sandbox:i`. Ray starts one that died again, empty: its sandboxes have ended with it, and their
holders learn that they are lost.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.config.schema import SandboxConfig
from turnwise.sandbox import source
from turnwise.sandbox.pool import Lease, PoolGone, SandboxPool
from turnwise.sandbox.pooled import Leasing

LATE_S = 10.0
"""Seconds beyond its own limit after which an answer counts as lost."""


class SandboxActor:
    """One pool in a process of its own."""

    def __init__(self, config: SandboxConfig) -> None:
        """Make the pool; it begins to open sandboxes when the first is wanted."""
        self._pool = SandboxPool(config)

    async def lease(self, policy: Mapping[str, Any], owner: str, key: str, *, field: str, within_s: float) -> Lease:
        """Return a lease; see `Pool.lease`."""
        return await self._pool.lease(policy, owner, key, field=field, within_s=within_s)

    async def renew(self, lease_id: str) -> bool:
        """Take note that a holder is there."""
        return await self._pool.renew(lease_id)

    async def call(self, lease_id: str, number: int, method: str, arguments: Mapping[str, Any]) -> Any:
        """Do something in a leased sandbox, once a number."""
        return await self._pool.call(lease_id, number, method, arguments)

    async def release(self, lease_id: str) -> None:
        """End a lease."""
        await self._pool.release(lease_id)

    async def ping(self) -> int:
        """Return the process id: the process lives and its event loop turns."""
        return os.getpid()

    async def status(self) -> dict[str, Any]:
        """Return the pool's counts, and its process."""
        return {**self._pool.status(), "pid": os.getpid()}

    async def shutdown(self) -> None:
        """Close all sandboxes."""
        await self._pool.close()


class RemotePool:
    """A pool by the name of its actor; `PoolGone` where that is gone."""

    def __init__(self, name: str) -> None:
        """Look the actor up when it is called."""
        self._name = name
        self._actor: Any = None

    async def lease(self, policy: Mapping[str, Any], owner: str, key: str, *, field: str, within_s: float) -> Lease:
        """Return a lease; see `Pool.lease`."""
        lease: Lease = await self._ask("lease", within_s, policy, owner, key, field=field, within_s=within_s)
        return lease

    async def renew(self, lease_id: str) -> bool:
        """Say that the holder is there."""
        return bool(await self._ask("renew", 0.0, lease_id))

    async def call(self, lease_id: str, number: int, method: str, arguments: Mapping[str, Any]) -> Any:
        """Do something in a leased sandbox; the holder knows how long that may take."""
        return await self._ask("call", math.inf, lease_id, number, method, arguments)

    async def release(self, lease_id: str) -> None:
        """End a lease."""
        await self._ask("release", 0.0, lease_id)

    async def _ask(self, method: str, limit_s: float, *arguments: Any, **named: Any) -> Any:
        import ray
        from ray.exceptions import RayError, RayTaskError

        from turnwise.remote import own_error

        try:
            self._actor = self._actor or ray.get_actor(self._name)
            answer = getattr(self._actor, method).remote(*arguments, **named)
            return await asyncio.wait_for(answer, None if math.isinf(limit_s) else limit_s + LATE_S)
        except RayTaskError as error:
            raise own_error(error) from error
        except (RayError, ValueError) as error:  # ValueError: no actor of that name
            raise PoolGone(f"the sandbox is gone: {self._name} is not there ({type(error).__name__})") from error
        except TimeoutError:
            raise PoolGone(f"the sandbox is gone: no answer of {self._name} to {method}") from None


def lease_from(names: Sequence[str], owner: str) -> None:
    """Have this process get its sandboxes from these pools; none: it opens them itself."""
    if names:
        source.use(Leasing([RemotePool(name) for name in names], owner).open)
