"""How the inside of a sandbox is spoken to, whatever started it: bytes both ways, and an end.

`served.py` speaks; a tier brings a link of its own where ending takes more than a signal.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Link(Protocol):
    """Bytes to and from `inside.py`."""

    async def send(self, data: bytes) -> None:
        """Send; OSError once the other end is gone."""
        ...

    async def receive(self, size: int) -> bytes:
        """Return so many bytes; EOFError or OSError once the other end is gone."""
        ...

    def end(self) -> None:
        """End everything inside, at once and without waiting; may be called twice."""
        ...

    async def close(self) -> str:
        """End it, wait for that, leave nothing behind, and return how it ended; may be called twice."""
        ...


class PipeLink:
    """The standard input and output of a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take over a process with both as pipes."""
        self._process = process

    async def send(self, data: bytes) -> None:
        """Write to its standard input."""
        writer = self._process.stdin
        assert writer is not None
        writer.write(data)
        await writer.drain()

    async def receive(self, size: int) -> bytes:
        """Read from its standard output."""
        reader = self._process.stdout
        assert reader is not None
        return await reader.readexactly(size)

    def end(self) -> None:
        """Kill the process."""
        if self._process.returncode is None:
            self._process.kill()

    async def close(self) -> str:
        """Kill the process and wait for its end."""
        self.end()
        return f"exit status {await self._process.wait()}"
