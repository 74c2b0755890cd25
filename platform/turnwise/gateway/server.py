"""The gateway's server, on the caller's own event loop and on loopback only; uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from turnwise.gateway.door import application
from turnwise.gateway.for_tools import ForTools
from turnwise.gateway.session import Session, Sessions

MODEL = "turnwise"
"""The name that replies bear; programs may ask for any."""

CLOSE_S = 2
"""Seconds that requests in progress have when the server closes."""


class Server:
    """One address with many sessions; belongs to the event loop that starts it."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self.sessions = Sessions()
        self.url = ""
        self._starting = asyncio.Lock()
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, session: Session) -> str:
        """Return the secret of a session that is served from now on; the first one starts the server."""
        async with self._starting:
            if self._server is None:
                await self._start()
        return self.sessions.open(session)

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])

    async def _start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = application(self.sessions, MODEL, ForTools(self.sessions))
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="on")
        config.timeout_graceful_shutdown = CLOSE_S
        server = _Uvicorn(config)
        self._serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not self._serving.done():
            await asyncio.sleep(0.005)
        if self._serving.done():
            self._serving.result()
        self._server = server


class _Uvicorn(uvicorn.Server):
    """Leaves the process's signals alone: they are whose loop it is."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[Any]:
        yield
