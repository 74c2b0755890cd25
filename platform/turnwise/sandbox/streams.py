"""Connections out of a sandbox, many over its one link: the outer end of what `inside.py` accepts while a command runs.

A command that is talked to has two more, its input and its output (`talk.py`).

A message that carries a stream's bytes is like any other between `served.py` and `inside.py`, with `stream`, its
number, and `does` in the header: `open` a new one; `data` behind the header; `taken`, so many bytes were passed on and
as many may follow; `eof`, no more comes from here; `end`, it is over. Neither side sends more than `WINDOW` bytes that
the other has not passed on, so that one slow connection holds up no other and fills no memory. `shut`, of number 0,
ends all of them and lets no more come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

CHUNK = 65536
"""Bytes of one message, at most."""

WINDOW = 4 * CHUNK
MAX_OPEN = 16
"""Connections of a command at once; further ones wait inside."""

MESSAGE_BYTES = 512
"""What a message counts besides its data, so that empty ones are bounded too."""

SLACK = 2 * MAX_OPEN * WINDOW
"""Bytes beyond a command's own that may be under way when it has had them all; what sends more lies."""

Send = Callable[[dict[str, Any], bytes], Awaitable[None]]


class Server(Protocol):
    """Who serves a stream: the gate, or whoever talks to the command."""

    async def serve(self, stream: Stream) -> None:
        """Serve it to its end."""


class Stream:
    """One connection, as the gate sees it."""

    def __init__(self, number: int, owner: Streams) -> None:
        """Of its owner's, that with this number."""
        self.number, self._owner = number, owner
        self._held, self._is_complete = bytearray(), False
        self._credit = WINDOW
        self._changed = asyncio.Event()

    async def read(self, most: int) -> bytes:
        """Return the next bytes, b"" at the end."""
        while not self._held and not self._is_complete:
            await self._change()
        part = bytes(self._held[:most])
        del self._held[: len(part)]
        if part:
            await self._owner.say(self.number, "taken", count=len(part))
        return part

    async def write(self, data: bytes) -> None:
        """Send; OSError where the inside is gone."""
        rest = memoryview(data)
        while rest:
            while not self._credit:
                await self._change()
            part = rest[: min(self._credit, CHUNK)]
            self._credit -= len(part)
            self._owner.spend(len(part))
            await self._owner.say(self.number, "data", bytes(part))
            rest = rest[len(part) :]

    def take(self, does: str, header: dict[str, Any], payload: bytes) -> None:
        """Take a message of it; ValueError for one that breaks the rules."""
        if does == "data":
            if self._is_complete or not payload or len(self._held) + len(payload) > WINDOW:
                raise ValueError("bytes beyond what a stream may send")
            self._held += payload
        elif does == "taken":
            count = header["count"]
            if type(count) is not int or not 0 < count <= WINDOW - self._credit:
                raise ValueError("more was taken than was sent")
            self._credit += count
        elif does == "eof":
            self._is_complete = True
        else:
            raise ValueError("a stream does no such thing")
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Streams:
    """The connections of one command; nothing that comes in is believed."""

    def __init__(self, server: Server, send: Send, max_bytes: int) -> None:
        """`send` sends a message to the inside; `max_bytes` both ways in all, then there is an end of all of them."""
        self._server, self._send, self._left = server, send, max_bytes
        self._open: dict[int, Stream] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}  # of those that are open
        self._ending: set[asyncio.Task[None]] = set()  # of those that are not quite over
        self._last = 0
        self._shutting: asyncio.Task[None] | None = None

    def take(self, header: dict[str, Any], payload: bytes) -> None:
        """Take a message; ValueError, KeyError or TypeError for what is none. Does not wait."""
        number, does = header["stream"], header["does"]
        if type(number) is not int or type(does) is not str or bool(payload) != (does == "data"):
            raise ValueError("no message of a stream")
        self.spend(len(payload) + MESSAGE_BYTES)
        if self._left < -SLACK:
            raise ValueError("more than a command may send")
        if self._shutting is not None:
            return
        if does == "open":
            self._begin(number)
        elif not 0 < number <= self._last:
            raise ValueError("a stream that was never opened")
        elif does == "end":
            self._drop(number)
        elif number in self._open:  # else it was ended here, which the other end does not know yet
            self._open[number].take(does, header, payload)

    def spend(self, num_bytes: int) -> None:
        """Count bytes; the end of all streams if they were the last that the command may have."""
        self._left -= num_bytes
        if self._left <= 0 and self._shutting is None:
            self._shutting = asyncio.create_task(self._shut())
            self._drop_all()

    async def say(self, number: int, does: str, data: bytes = b"", **more: int) -> None:
        """Send a message of a stream that is open still; OSError where the inside is gone."""
        if number in self._open:
            await self._send({"stream": number, "does": does, **more}, data)

    async def close(self) -> None:
        """End them all."""
        if self._shutting is not None:
            self._shutting.cancel()
            self._ending.add(self._shutting)
        self._drop_all()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _shut(self) -> None:
        with contextlib.suppress(OSError):
            await self._send({"stream": 0, "does": "shut"}, b"")

    def _begin(self, number: int) -> None:
        if number <= self._last or len(self._open) >= MAX_OPEN:
            raise ValueError("a stream that cannot be opened")
        self._last = number
        self._open[number] = Stream(number, self)
        self._tasks[number] = asyncio.create_task(self._serve(number))

    def _drop(self, number: int) -> None:
        self._open.pop(number, None)
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _drop_all(self) -> None:
        for number in list(self._tasks):
            self._drop(number)

    async def _serve(self, number: int) -> None:
        try:
            with contextlib.suppress(OSError):
                await self._server.serve(self._open[number])
                if self._open.pop(number, None) is not None:  # first: the inside opens another once it was told
                    await self._send({"stream": number, "does": "end"}, b"")
        finally:
            self._open.pop(number, None)
            self._tasks.pop(number, None)
