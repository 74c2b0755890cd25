"""The way out of a browser's session: every request that its pages make comes here, and through the gate or not at all.

The gate (`turnwise.sandbox.gate`) looks at the host, at every address that it leads to, and at each hop of a redirect;
here bytes, time and connections are counted. What does not come this way has no other: the browser has no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from turnwise.sandbox.gate import Gate

MAX_OPEN = 32
"""Connections of a session at once; further ones wait."""

CONNECTION_S = 60.0
"""Seconds that one may take, however it moves."""


class Proxy:
    """Serves what one session asks for."""

    def __init__(self, allowed: Sequence[str], max_bytes: int) -> None:
        """`allowed` has entries of `turnwise.sandbox.network`; after `max_bytes`, both ways in all, nothing comes."""
        self._gate, self._left = Gate(allowed), max_bytes
        self._slots = asyncio.Semaphore(MAX_OPEN)
        self._serving: set[asyncio.Task[None] | None] = set()
        self._server: asyncio.Server | None = None
        self.port = 0  # on the browser's loopback

    async def start(self, listener: socket.socket) -> None:
        """Take over a socket that listens."""
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in self._serving if task), return_exceptions=True)

    def spend(self, num_bytes: int) -> None:
        """Count bytes; OSError once they are more than the session may have."""
        self._left -= num_bytes
        if self._left < 0:
            raise OSError("a session's bytes are used up")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # a TimeoutError is an OSError
                async with self._slots, asyncio.timeout(CONNECTION_S):
                    await self._gate.serve(_Counted(self, reader, writer))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()
            self._serving.discard(task)


class _Counted:
    """A connection whose bytes are counted."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer

    async def read(self, most: int) -> bytes:
        data = await self._reader.read(most)
        self._proxy.spend(len(data))
        return data

    async def write(self, data: bytes) -> None:
        self._proxy.spend(len(data))
        self._writer.write(data)
        await self._writer.drain()
