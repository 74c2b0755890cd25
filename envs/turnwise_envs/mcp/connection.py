"""One session with a server of the Model Context Protocol, for code that does not await.

It lives in a thread with an event loop of its own. Whatever the server does, a call comes back in its time: with a
result, the tool's own error among them, or with an error that says what the server did.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from mcp import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    UNSUPPORTED_PROTOCOL_VERSION,
    PaginatedRequestParams,
)

from turnwise.errors import EnvError, TurnwiseError
from turnwise_envs.mcp.tools import MAX_TOOLS, Offered, Result, read_result

CLOSE_S = 5.0
GRACE_S = 2.0
"""Seconds in which the package `mcp` may notice by itself that a call is out of time."""

LOST = (CONNECTION_CLOSED, INVALID_REQUEST, PARSE_ERROR)
"""Codes of errors that are no tool's: the server is gone, or has forgotten us, or does not speak the protocol."""


class Way(Protocol):
    """How a server is reached: `Command` or `Address`."""

    def open(self) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """Give the streams of what it says and of what it is told."""

    def failure(self, error: BaseException) -> TurnwiseError:
        """Return what an error of the session comes of."""


class Session(ClientSession):
    """A client's session that takes results as they are: no schema of the server's is run on them."""

    async def validate_tool_result(self, name: str, result: Any) -> None:
        """Take it."""


class Connection:
    """A session that has begun; `close` ends it."""

    def __init__(self, way: Way, *, start_s: float, call_s: float) -> None:
        """Begin one and list the tools; EnvError, UserError for the user's mistake, or SandboxLost."""
        self._way, self._call_s = way, call_s
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready: Future[list[Offered]] = Future()
        self._thread = threading.Thread(target=self._work, args=(ready,), name="mcp", daemon=True)
        self._thread.start()
        try:
            self.tools = ready.result(start_s)
        except TurnwiseError:
            raise
        except Exception as error:
            late = EnvError(f"the MCP server was not ready within start_s={start_s:g}")
            failure = way.failure(error) if ready.done() else late
            self.close()
            raise failure from error

    def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """Call a tool by its real name; EnvError or SandboxLost for anything but a result or the tool's own error."""
        assert self._session is not None
        late = EnvError(f"the MCP server did not answer {name} within call_s={self._call_s:g}")
        try:
            asked = self._session.call_tool(name, dict(arguments), read_timeout_seconds=self._call_s)
            return read_result(self._within(asked, self._call_s + GRACE_S))
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise late from error
            if error.code in LOST:
                raise self._way.failure(error) from error
            return Result(text=error.message, is_error=True, value=None)
        except TimeoutError as error:
            raise late from error
        except (ValueError, RuntimeError) as error:  # what pydantic refuses is a ValueError
            said = " ".join(str(error).split())[:200]
            raise EnvError(f"the MCP server answered {name} with what is no result ({said})") from error

    def close(self) -> None:
        """End the session, and the server with it if it was started here; may be called twice."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is over
            self._loop.call_soon_threadsafe(self._stop.set)
            if self._session is not None:
                self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._give_up)
                self._thread.join(CLOSE_S)

    def _within(self, work: Coroutine[Any, Any, Any], limit_s: float) -> Any:
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise self._way.failure(error) from error
        try:
            return asked.result(limit_s)
        except CancelledError as error:
            raise self._way.failure(error) from error

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _work(self, ready: Future[list[Offered]]) -> None:
        """Run the session until it is over; an error before its beginning is for whoever waits for that."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main(ready))
        except BaseException as error:  # noqa: BLE001 - of a thread: after the beginning, calls say what happened
            if not ready.done():
                ready.set_exception(_innermost(error))

    async def _main(self, ready: Future[list[Offered]]) -> None:
        self._task = asyncio.current_task()
        async with self._way.open() as (heard, said), Session(heard, said) as session:
            await _shake_hands(session)
            tools = await _listed(session)
            self._session = session
            ready.set_result(tools)
            await self._stop.wait()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _shake_hands(session: Session) -> None:
    """Begin with a handshake, since servers keep their state by session; one that knows none is asked without."""
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION):
            raise
        await session.discover()


async def _listed(session: Session) -> list[Offered]:
    """Return all tools, page by page; EnvError for more than anybody needs."""
    found: list[Offered] = []
    cursor = None
    for _ in range(MAX_TOOLS):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        found += [
            Offered(name=tool.name, description=tool.description or "", parameters=tool.input_schema)
            for tool in page.tools
        ]
        cursor = page.next_cursor
        if not cursor:
            break
    if cursor or len(found) > MAX_TOOLS:
        raise EnvError(f"the MCP server lists more than {MAX_TOOLS} tools")
    return found
