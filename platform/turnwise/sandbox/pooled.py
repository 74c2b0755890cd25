"""A sandbox of a pool, as its holder sees it: the same methods, and a heartbeat for as long as it is held.

`source.py` hands them out to environments and scorers where the configuration has pools.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.config.schema import SandboxConfig
from turnwise.errors import InfraError, TurnwiseError
from turnwise.sandbox import Ran, SandboxLost
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.pool import Lease, Pool, PoolGone
from turnwise.sandbox.served import FILE_S, GRACE_S, check_texts

WITHIN_S = 50.0
"""Seconds that a sandbox is waited for, all pools together; less than an environment's `reset` has by default."""

RETRY_S = 0.25
"""Pause between two rounds of asking, where no pool is there."""

BEATS = 4
"""Heartbeats within the silence that ends a lease."""

RELEASE_S = 10.0

QUEUE_S = 600.0
"""Seconds that a command may wait for its turn in the pool, beyond its own limit."""


class PooledSandbox:
    """A `Sandbox` by calls to the pool that has it."""

    def __init__(self, pool: Pool, lease: Lease, wall_s: float) -> None:
        """Take over the lease of a sandbox whose commands may take so long; `close` gives it back."""
        self.tier, self._wall_s = lease.tier, wall_s
        self._pool, self._lease = pool, lease
        self._lock = asyncio.Lock()
        self._number = 0
        self._lost: str | None = None
        self._beating = asyncio.create_task(self._beat())

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        deadline_s: float | None = None,
        output_bytes: int | None = None,
    ) -> Ran:
        """Run a command; see `Sandbox.exec`."""
        words = [command] if isinstance(command, str) else list(command)
        check_texts([cwd, *words, *(env or {}), *(env or {}).values()])
        asked: dict[str, Any] = {
            "command": command if isinstance(command, str) else words,
            "cwd": cwd,
            "env": dict(env or {}),
        }
        asked |= {"stdin": stdin, "deadline_s": deadline_s, "output_bytes": output_bytes}
        ran: Ran = await self._call("exec", self._wall_s + QUEUE_S, **asked)
        return ran

    async def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Return a file's content; see `Sandbox.read`."""
        check_texts([path])
        return bytes(await self._call("read", path=path, max_bytes=max_bytes))

    async def write(self, path: str, data: bytes) -> None:
        """Make or replace a file; see `Sandbox.write`."""
        check_texts([path])
        await self._call("write", path=path, data=data)

    async def snapshot(self) -> bytes:
        """Return the workspace as a tar archive."""
        return bytes(await self._call("snapshot"))

    async def restore(self, archive: bytes) -> None:
        """Make the workspace what the archive holds."""
        await self._call("restore", archive=archive)

    async def reset(self) -> bool:
        """Say that it is not known to be as new: another lease is what takes its place."""
        return False

    async def close(self) -> None:
        """Give it back; a pool that is gone has ended it already."""
        if not self._beating.done():
            self._lost = self._lost or "it was closed"
            self._beating.cancel()
            with contextlib.suppress(TurnwiseError, TimeoutError):
                await asyncio.wait_for(self._pool.release(self._lease.lease_id), RELEASE_S)

    async def _call(self, method: str, limit_s: float = FILE_S, **arguments: Any) -> Any:
        async with self._lock:
            if self._lost is not None:
                raise SandboxLost(f"the sandbox is gone: {self._lost}")
            self._number += 1
            try:
                called = self._pool.call(self._lease.lease_id, self._number, method, arguments)
                return await asyncio.wait_for(called, limit_s + 2 * GRACE_S)
            except SandboxLost as error:
                self._lost = str(error).removeprefix("the sandbox is gone: ")
                raise
            except TimeoutError:
                self._lost = "the pool gave no answer in time"
                raise SandboxLost(f"the sandbox is gone: {self._lost}") from None
            except asyncio.CancelledError:
                self._lost = "a request was given up"
                raise

    async def _beat(self) -> None:
        """Say again and again that the holder is there; what cannot be said now is said next time."""
        while True:
            await asyncio.sleep(self._lease.lease_s / BEATS)
            with contextlib.suppress(InfraError):
                await self._pool.renew(self._lease.lease_id)


class Leasing:
    """A source of sandboxes that leases them."""

    def __init__(self, pools: Sequence[Pool], owner: str) -> None:
        """`owner` is who the leases say they are for."""
        self._pools, self._owner = list(pools), owner

    async def open(self, policy: SandboxPolicy | None = None, field: str = "sandbox") -> PooledSandbox:
        """Lease one, from any of the pools; one that is gone is asked again when it may be back.

        UserError and SandboxLost as `tiers.open_sandbox`; InfraError if there is none in time.
        """
        policy = policy or SandboxPolicy()
        policy.check(field)
        until = asyncio.get_running_loop().time() + WITHIN_S
        while True:
            for pool in random.sample(self._pools, len(self._pools)):
                left_s = until - asyncio.get_running_loop().time()
                try:
                    return await self._leased(pool, policy, field, max(0.1, left_s))
                except PoolGone:
                    if left_s < RETRY_S:
                        raise
            await asyncio.sleep(RETRY_S)

    async def _leased(self, pool: Pool, policy: SandboxPolicy, field: str, within_s: float) -> PooledSandbox:
        key = secrets.token_hex(16)
        wanted = dataclasses.asdict(policy)
        lease = await pool.lease(wanted, self._owner, key, field=field, within_s=within_s)
        return PooledSandbox(pool, lease, policy.wall_s)


def pool_names(config: SandboxConfig) -> list[str]:
    """Return the names of the actors that the configuration has as pools."""
    return [f"sandbox:{index}" for index in range(config.pool)]
