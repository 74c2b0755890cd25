"""The link to a container's first process: its standard input and output through the daemon, as a stream of frames.

The daemon closes the input when the connection ends, and `inside.py` ends with its input; so a killed owner leaves
nothing. Where the daemon itself was killed it does not, and the container goes on: then the first process is killed by
its id, if this process may, and else ends by itself once nobody has said anything for a while (`SILENCE_S`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import time
from pathlib import Path

from turnwise.sandbox.cgroup import Cgroup
from turnwise.sandbox.daemon import Daemon, one_line, refusals, state

SILENCE_S = 300.0
"""Seconds after which an inside that was told nothing, not even that somebody is there, ends."""

BEAT_S = 60.0
"""Seconds between two signs that somebody is there: an empty message."""

BEAT = bytes(4)
SAID_BYTES = 2000
GONE_S = 20.0
STDERR = 2


class ContainerLink:
    """A container, the connection to its first process, and that process."""

    def __init__(
        self, daemon: Daemon, container: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take over a container that runs, and the connection."""
        self._daemon, self.container = daemon, container
        self._reader, self._writer = reader, writer
        self._left = 0  # bytes of the frame that is being read
        self._said = b""
        self._first: int | None = None
        self._cgroup: Cgroup | None = None
        self._closing: asyncio.Future[str] | None = None
        self._beating = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def hold(self, first: int | None, cgroup: Cgroup | None) -> None:
        """Take over a descriptor of the first process, and a control group that is not the daemon's."""
        self._first, self._cgroup = first, cgroup

    @property
    def said(self) -> str:
        """What the first process wrote to its standard error."""
        return " ".join(self._said.decode(errors="replace").split()) or "it said nothing"

    async def send(self, data: bytes) -> None:
        """Write to the container's input."""
        if self._writer.is_closing():
            raise BrokenPipeError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, size: int) -> bytes:
        """Read from the container's output."""
        parts = []
        while size:
            while not self._left:
                await self._next_frame()
            part = await self._reader.read(min(size, self._left))
            if not part:
                raise EOFError
            self._left -= len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    async def _next_frame(self) -> None:
        which, length = struct.unpack(">BxxxI", await self._reader.readexactly(8))
        if which != STDERR:
            self._left = length
            return
        while length:
            part = await self._reader.read(min(length, 65536))
            if not part:
                raise EOFError
            length -= len(part)
            self._said = (self._said + part)[:SAID_BYTES]

    def end(self) -> None:
        """Close the connection and kill the first process."""
        self._beating.cancel()
        self._writer.transport.abort()
        if self._first is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)

    async def close(self) -> str:
        """Remove the container."""
        self.end()
        if self._closing is None:
            self._closing = self._daemon.ending(self._removed)
        return await asyncio.shield(self._closing)

    def _removed(self) -> str:
        try:
            return removed(self._daemon, self.container)
        finally:
            if self._first is not None:
                os.close(self._first)
                self._first = None
            if self._cgroup is not None:
                self._cgroup.remove()

    def _beat(self) -> None:
        if not self._writer.is_closing():
            self._writer.write(BEAT)
            self._beating = asyncio.get_running_loop().call_later(BEAT_S, self._beat)


def removed(daemon: Daemon, container: str) -> str:
    """Remove a container, wait until it is gone, and return how it had ended."""
    how = "it was gone already"
    try:
        found = state(daemon.api, container)
        if found is not None:
            how = _how(found)
            with contextlib.suppress(*refusals()):  # it is being removed, or it is gone
                daemon.api.remove_container(container, force=True, v=True)
        until = time.monotonic() + GONE_S
        while state(daemon.api, container) is not None and time.monotonic() < until:
            time.sleep(0.01)
    except refusals() as error:
        return f"the daemon does not answer: {one_line(error)[:160]}"
    return how


def _how(found: dict[str, object]) -> str:
    if found.get("OOMKilled"):
        return "out of memory"
    return "it was running" if found.get("Running") else f"exit status {found.get('ExitCode')}"


def first_process(daemon: Daemon, container: str, lease: str) -> int | None:
    """Return the id of the container's first process (gVisor's kernel), as this process sees it; None if it does not.

    The daemon may live in another namespace of processes, where the number means another one: the command line tells,
    which holds the lease, and that of gVisor's kernel the container's id.
    """
    found = state(daemon.api, container)
    first = int(found["Pid"]) if found else 0
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{first}/cmdline").read_bytes() if first else b""
        return first if lease.encode() in words or container.encode() in words else None
    return None
