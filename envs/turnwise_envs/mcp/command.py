"""A server of the Model Context Protocol that is a command: in a sandbox of its own, spoken to over input and output.

Nothing that it writes is believed: a message has a size, all of them together have one, and what is no message ends it.
The sandbox is opened here, also where the configuration has pools: what these lease cannot be talked to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from turnwise.errors import EnvError, TurnwiseError, UserError
from turnwise.sandbox import Ran, SandboxLost
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import open_sandbox

MIB = 2**20

MESSAGE_MB = 32
"""MiB of one message, at most."""

TALK_MB = 256
"""MiB of all messages of an episode."""

SETTLE_S = 0.3
"""Seconds in which a command whose output has ended may end too, so that its exit status is known."""

NO_START = (126, 127)
"""Exit statuses of what cannot be run at all."""


class Command:
    """One run of the command."""

    def __init__(self, command: Sequence[str], policy: SandboxPolicy, variables: Mapping[str, str], field: str) -> None:
        """`variables` are the command's, beside those of every sandbox; `field` is the option with the policy."""
        self._command, self._policy, self._variables, self._field = list(command), policy, dict(variables), field
        self._ran: Ran | None = None
        self._lost: SandboxLost | None = None
        self._wrong = ""  # what it did that no server does

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Any, Any]]:
        """Start it; yield the stream of what it says and that of what it is told. Errors as `open_sandbox`."""
        box = await open_sandbox(self._policy, self._field)
        heard, hears = anyio.create_memory_object_stream[Any](0)
        says, said = anyio.create_memory_object_stream[Any](0)
        is_closing = False

        async def talk(stdin: Any, stdout: Any) -> None:
            writing = asyncio.create_task(_write(said, stdin))
            try:
                await self._read(stdout, heard)
            finally:
                asyncio.get_running_loop().call_later(SETTLE_S, heard.close)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

        async def run() -> None:
            try:
                self._ran = await box.converse(self._command, talk, env=self._variables, talk_bytes=TALK_MB * MIB)
            except SandboxLost as error:
                self._lost = None if is_closing else error
            finally:
                heard.close()

        running = asyncio.create_task(run())
        try:
            yield hears, says
        finally:
            is_closing = True
            await box.close()
            await asyncio.gather(running, return_exceptions=True)
            for stream in (hears, says, said):
                stream.close()

    def failure(self, error: BaseException) -> TurnwiseError:
        """Return what an error of the session comes of: what became of the command, if that is known."""
        if self._wrong:
            return EnvError(f"the MCP server {self._wrong}")
        if self._ran is None:
            return self._lost or EnvError(f"the MCP server broke off ({error})")
        said = _last_line(self._ran)
        if self._ran.code in NO_START:
            problem, remedy = (
                f"cannot be run in the sandbox ({said})",
                "name a program in a folder of sandbox.read_only",
            )
            return UserError("env.kwargs.command", " ".join(self._command), problem, remedy)
        how = "was out of time" if self._ran.timed_out else f"ended with exit status {self._ran.code}"
        return EnvError(f"the MCP server {how} ({said})")

    async def _read(self, stdout: Any, heard: Any) -> None:
        """Pass on each line as a message, until the end or one that is none."""
        held = bytearray()
        while part := await stdout.read(65536):
            *lines, part = part.split(b"\n")
            for line in lines:
                whole = bytes(held) + line
                held.clear()
                if whole.strip() and not await self._pass_on(whole, heard):
                    return
            held += part
            if len(held) > MESSAGE_MB * MIB:
                self._wrong = f"sent a message of more than {MESSAGE_MB} MiB"
                return

    async def _pass_on(self, line: bytes, heard: Any) -> bool:
        """Return whether that was a message and somebody wants it."""
        try:
            await heard.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
        except ValueError:
            self._wrong = f"wrote what is no message: {line[:80]!r}"
            return False
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True


async def _write(said: Any, stdin: Any) -> None:
    """Pass on each message as a line."""
    async for message in said:
        await stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")


def _last_line(ran: Ran) -> str:
    lines = ran.stderr.decode(errors="replace").split("\n")
    return next((" ".join(line.split())[:200] for line in reversed(lines) if line.strip()), "it said nothing")
