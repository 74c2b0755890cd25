"""The outer end of `inside.py`: a sandbox behind a link. What starts its inside differs by tier.

Nothing that comes back is believed: sizes are bounded before they are read, and whoever does not answer is ended. One
thing at a time is asked of a sandbox.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from turnwise.sandbox import FileRefused, Ran, Reason, SandboxLost, Tier
from turnwise.sandbox.link import Link
from turnwise.sandbox.policy import MIB, SandboxPolicy

INSIDE = Path(__file__).with_name("inside.py")

MAX_HEADER = 65536
GRACE_S = 5.0
"""Seconds beyond its own limit within which a sandbox must answer; after them it is ended."""

FILE_S = 30.0
"""Seconds for reading or writing a file, or the whole workspace."""

START_S = 20.0


class Served:
    """A sandbox whose inside answers over a link."""

    def __init__(self, tier: Tier, policy: SandboxPolicy, link: Link) -> None:
        """Take over the link; `close` ends it."""
        self.tier, self._policy, self._link = tier, policy, link
        self._lock = asyncio.Lock()
        self._lost: str | None = None

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
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        _check_texts([cwd, *argv, *(env or {}), *(env or {}).values()])
        most = min(self._policy.output_kb * 1024, _given(output_bytes, 2**62))
        limit_s = min(self._policy.wall_s, _given(deadline_s, 1e18))
        wanted = {"op": "run", "argv": argv, "cwd": cwd, "env": dict(env or {})}
        wanted |= {"deadline_s": limit_s, "output_bytes": most}
        header, data = await self._ask(wanted, stdin, most=2 * most, limit_s=limit_s)
        return self._ran(header, data)

    async def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Return a file's content; see `Sandbox.read`."""
        most = min(self._disk_bytes, _given(max_bytes, 2**62))
        return await self._file("read", path, most=most)

    async def write(self, path: str, data: bytes) -> None:
        """Make or replace a file; see `Sandbox.write`."""
        await self._file("write", path, data)

    async def snapshot(self) -> bytes:
        """Return the workspace as a tar archive."""
        return await self._file("pack", ".", most=2 * self._disk_bytes)

    async def restore(self, archive: bytes) -> None:
        """Make the workspace what the archive holds."""
        await self._file("unpack", ".", archive)

    async def close(self) -> None:
        """End the process, and with it everything inside."""
        self._lost = self._lost or "it was closed"
        await self._link.close()

    async def begin(self, said: Callable[[], str]) -> Self:
        """Return the sandbox once it answers; if it does not, close it and raise `SandboxLost` with what was said."""
        try:
            await self.exec(["/bin/true"], deadline_s=START_S)
        except BaseException as error:
            await self.close()
            if isinstance(error, SandboxLost):
                raise SandboxLost(f"the sandbox did not start ({self.tier.value}): {said()}") from error
            raise
        return self

    @property
    def _disk_bytes(self) -> int:
        return self._policy.disk_mb * MIB

    async def _file(self, op: str, path: str, data: bytes = b"", most: int = 0) -> bytes:
        _check_texts([path])
        header, found = await self._ask({"op": op, "path": path, "max_bytes": most}, data, most=most, limit_s=FILE_S)
        refused = header.get("refused")
        if refused is None:
            return found
        known = {reason.value: reason for reason in Reason}
        raise FileRefused(path, known.get(refused, Reason.DENIED) if isinstance(refused, str) else Reason.DENIED)

    async def _ask(self, header: dict[str, Any], data: bytes, *, most: int, limit_s: float) -> tuple[Any, bytes]:
        """Send a request and return its answer, of at most `most` bytes, or end the sandbox and raise `SandboxLost`."""
        async with self._lock:
            if self._lost is not None:
                raise SandboxLost(f"the sandbox is gone: {self._lost}")
            try:
                return await asyncio.wait_for(self._exchange(header, data, most), limit_s + GRACE_S)
            except TimeoutError:
                await self._lose(f"no answer within {limit_s + GRACE_S:g} s")
            except (OSError, EOFError):
                await self._lose("its process ended")
            except (ValueError, KeyError, TypeError, RecursionError, struct.error):
                await self._lose("it answered what is no answer")
            except asyncio.CancelledError:
                self._lost = "a request was given up"
                self._link.end()
                raise
            raise SandboxLost(f"the sandbox is gone: {self._lost}")

    async def _lose(self, why: str) -> None:
        self._lost = why
        self._lost = f"{why} ({await self._link.close()})"

    async def _exchange(self, header: dict[str, Any], data: bytes, most: int) -> tuple[Any, bytes]:
        head = json.dumps({**header, "size": len(data)}).encode()
        await self._link.send(struct.pack(">I", len(head)) + head + data)
        length = struct.unpack(">I", await self._link.receive(4))[0]
        if length > MAX_HEADER:
            raise ValueError("a header beyond its size")
        answer = json.loads(await self._link.receive(length))
        size = answer["size"]
        if type(size) is not int or not 0 <= size <= most:
            raise ValueError("an answer beyond its size")
        return answer, await self._link.receive(size)

    def _ran(self, header: Any, data: bytes) -> Ran:
        try:
            (out, err), (num_out, num_err), code = header["kept"], header["num"], header["code"]
            numbers = [out, err, num_out, num_err]
            is_sound = all(type(value) is int and value >= 0 for value in numbers) and out + err == len(data)
            if not is_sound or not (code is None or type(code) is int):
                raise ValueError("numbers that do not fit")
            seconds = float(header["seconds"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            self._lost = "it answered what is no answer"
            self._link.end()
            raise SandboxLost(f"the sandbox is gone: {self._lost}") from error
        return Ran(
            code=code, stdout=data[:out], stderr=data[out:], num_stdout=num_out, num_stderr=num_err, seconds=seconds
        )


def settings(
    workspace: str,
    limits: Mapping[str, int],
    env: Mapping[str, str],
    *,
    is_alone: bool,
    uid: int | None = None,
    denied: bytes | None = None,
    silence_s: float | None = None,
) -> str:
    """Return what `inside.py` is told at its start.

    `is_alone`: every process it sees is its own. `uid`: the user to become. `denied`: the filter of system calls to
    install. `silence_s`: seconds without a message after which it ends.
    """
    told = {"workspace": workspace, "limits": dict(limits), "env": dict(env), "is_alone": is_alone, "uid": uid}
    program = None if denied is None else base64.b64encode(denied).decode()
    return json.dumps({**told, "denied": program, "silence_s": silence_s})


def limits(policy: SandboxPolicy, *, in_all: bool) -> dict[str, int]:
    """Return the resource limits of every process; `in_all`: memory and processes are not to be limited by these."""
    found = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": policy.files, "RLIMIT_FSIZE": policy.disk_mb * MIB}
    return found if in_all else {**found, "RLIMIT_NPROC": policy.processes, "RLIMIT_AS": policy.memory_mb * MIB}


def _given(value: float | None, otherwise: float) -> Any:
    return otherwise if value is None else value


def _check_texts(texts: Sequence[str]) -> None:
    if any("\0" in text for text in texts):
        raise ValueError("a command, path or variable has a NUL byte")
