"""Talking to a command for as long as it runs: its input and output as streams, beside its connections to the network.

`Served.converse` runs one. Inside they are the first two connections that `inside.py` opens, so that they have their
bounds: a window each, and so many bytes in all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from turnwise.sandbox.streams import Server, Stream

Talk = Callable[[Stream, Stream], Awaitable[None]]
"""Writes to the command's input, the first one, and reads from its output, until it has had enough."""

INPUT, OUTPUT = 1, 2
"""Numbers of streams."""


class Talking:
    """Serves a command's input and output together; what else it opens goes to the gate."""

    def __init__(self, talk: Talk, gate: Server | None) -> None:
        """Without a gate no other stream is served."""
        self._talk, self._gate = talk, gate
        self._input: Stream | None = None
        self._is_over = asyncio.Event()

    async def serve(self, stream: Stream) -> None:
        """Serve a stream to its end."""
        if stream.number == INPUT:
            self._input = stream
            await self._is_over.wait()
        elif stream.number == OUTPUT and self._input is not None:
            try:
                await self._talk(self._input, stream)
            finally:
                self._is_over.set()
        elif self._gate is not None:
            await self._gate.serve(stream)
