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
from turnwise.sandbox.gate import Gate
from turnwise.sandbox.link import Link
from turnwise.sandbox.policy import MIB, SandboxPolicy
from turnwise.sandbox.streams import CHUNK, Server, Streams
from turnwise.sandbox.talk import Talk, Talking

INSIDE = Path(__file__).with_name("inside.py")

MAX_HEADER = 65536
GRACE_S = 5.0
"""Seconds beyond its own limit within which a sandbox must answer; after them it is ended."""

FILE_S = 30.0
"""Seconds for reading or writing a file, or the whole workspace."""

START_S = 20.0

PROXY_PORT = 3128
"""Port of the sandbox's own loopback at which a command finds the way to what its policy lists."""

_PROXY = f"http://127.0.0.1:{PROXY_PORT}"
_NO_PROXY = "localhost,127.0.0.1,::1"
PROXY = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _PROXY)
PROXY |= {"no_proxy": _NO_PROXY, "NO_PROXY": _NO_PROXY}
"""Variables of a command that may use the network."""


class Served:
    """A sandbox whose inside answers over a link."""

    def __init__(self, tier: Tier, policy: SandboxPolicy, link: Link) -> None:
        """Take over the link; `close` ends it."""
        self.tier, self._policy, self._link = tier, policy, link
        has_gate = bool(policy.network) and tier is not Tier.PROCESS  # a plain process has this machine's network
        self._gate = Gate(policy.network) if has_gate else None
        self._lock, self._sending = asyncio.Lock(), asyncio.Lock()
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
        wanted: dict[str, Any] = {"argv": argv, "cwd": cwd, "env": dict(env or {}), "deadline_s": deadline_s}
        return await self._run({**wanted, "output_bytes": output_bytes}, stdin, self._gate, 0)

    async def converse(
        self,
        command: Sequence[str],
        talk: Talk,
        *,
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        talk_bytes: int,
    ) -> Ran:
        """Run a command whose input and output are given to `talk`, as streams to write to and to read from.

        When `talk` returns both are closed; when the command ends, or `talk_bytes` went both ways, `talk` is cancelled,
        and what it has not read by then is lost. `Ran` has the standard error alone. Limits are those of `exec`.
        """
        wanted: dict[str, Any] = {"argv": list(command), "cwd": cwd, "env": dict(env or {}), "deadline_s": deadline_s}
        wanted |= {"output_bytes": None, "talks": True}
        return await self._run(wanted, b"", Talking(talk, self._gate), talk_bytes)

    async def _run(self, wanted: dict[str, Any], stdin: bytes, server: Server | None, talk_bytes: int) -> Ran:
        """Run what is wanted, with its limits within the policy's; `server` serves its streams."""
        check_texts([wanted["cwd"], *wanted["argv"], *wanted["env"], *wanted["env"].values()])
        most = min(self._policy.output_kb * 1024, _given(wanted["output_bytes"], 2**62))
        limit_s = min(self._policy.wall_s, _given(wanted["deadline_s"], 1e18))
        wanted |= {"op": "run", "deadline_s": limit_s, "output_bytes": most}
        num_refused, max_bytes = 0, talk_bytes
        if self._gate is not None:
            num_refused, max_bytes = self._gate.num_refused, talk_bytes + self._policy.network_mb * MIB
            wanted |= {"env": {**PROXY, **wanted["env"]}, "proxy": PROXY_PORT}
        streams = None if server is None else Streams(server, self._send_whole, max_bytes)
        header, data = await self._ask(wanted, stdin, most=2 * most, limit_s=limit_s, streams=streams)
        return self._ran(header, data, 0 if self._gate is None else self._gate.num_refused - num_refused)

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

    async def reset(self) -> bool:
        """Make it as it was when it started, and return whether that is proven; see `Sandbox.reset`."""
        header, _ = await self._ask({"op": "reset"}, b"", most=0, limit_s=FILE_S)
        return header.get("is_clean") is True

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
        check_texts([path])
        header, found = await self._ask({"op": op, "path": path, "max_bytes": most}, data, most=most, limit_s=FILE_S)
        refused = header.get("refused")
        if refused is None:
            return found
        known = {reason.value: reason for reason in Reason}
        raise FileRefused(path, known.get(refused, Reason.DENIED) if isinstance(refused, str) else Reason.DENIED)

    async def _ask(
        self, header: dict[str, Any], data: bytes, *, most: int, limit_s: float, streams: Streams | None = None
    ) -> tuple[Any, bytes]:
        """Send a request and return its answer, of at most `most` bytes, or end the sandbox and raise `SandboxLost`."""
        async with self._lock:
            if self._lost is not None:
                raise SandboxLost(f"the sandbox is gone: {self._lost}")
            try:
                return await asyncio.wait_for(self._exchange(header, data, most, streams), limit_s + GRACE_S)
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

    async def _exchange(
        self, header: dict[str, Any], data: bytes, most: int, streams: Streams | None
    ) -> tuple[Any, bytes]:
        """Send a request and return its answer; what comes of its streams before that goes to who serves them."""
        await self._send(header, data)
        try:
            while True:
                answer, found = await self._receive(most)
                if "stream" not in answer:
                    return answer, found
                if streams is None:
                    raise ValueError("a stream that nothing here may open")
                streams.take(answer, found)
        finally:
            if streams is not None:
                await streams.close()

    async def _send_whole(self, header: dict[str, Any], data: bytes) -> None:
        """Send to the end, although who sends is cancelled: half a message would be the end of all."""
        await asyncio.shield(self._send(header, data))

    async def _send(self, header: dict[str, Any], data: bytes) -> None:
        head = json.dumps({**header, "size": len(data)}).encode()
        async with self._sending:
            await self._link.send(struct.pack(">I", len(head)) + head + data)

    async def _receive(self, most: int) -> tuple[Any, bytes]:
        length = struct.unpack(">I", await self._link.receive(4))[0]
        if length > MAX_HEADER:
            raise ValueError("a header beyond its size")
        header = json.loads(await self._link.receive(length))
        size = header["size"]
        if type(size) is not int or not 0 <= size <= (CHUNK if "stream" in header else most):
            raise ValueError("an answer beyond its size")
        return header, await self._link.receive(size)

    def _ran(self, header: Any, data: bytes, num_refused: int) -> Ran:
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
            code=code,
            stdout=data[:out],
            stderr=data[out:],
            num_stdout=num_out,
            num_stderr=num_err,
            seconds=seconds,
            num_refused=num_refused,
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


def check_texts(texts: Sequence[str]) -> None:
    """ValueError for what cannot be a word of a command, a variable or a path."""
    if any("\0" in text for text in texts):
        raise ValueError("a command, path or variable has a NUL byte")
