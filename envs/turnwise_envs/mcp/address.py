"""A server of the Model Context Protocol at an address that speaks streamable HTTP.

It is asked from this process, without the proxies that this machine may have. An answer has a size.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from turnwise.errors import EnvError, TurnwiseError, UserError

MAX_BYTES = 32 * 2**20
"""Of one answer."""


class Address:
    """One session there."""

    def __init__(self, url: str, token: str | None) -> None:
        """`token` is sent as a bearer token."""
        self._url, self._token = url, token
        self._sent = Bounded()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield the stream of what it says and that of what it is told."""
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        timeout = httpx2.Timeout(30.0, read=300.0)
        async with (
            httpx2.AsyncClient(headers=headers, transport=self._sent, timeout=timeout) as client,
            streamable_http_client(self._url, http_client=client, max_sse_event_size=MAX_BYTES) as streams,
        ):
            yield streams

    def failure(self, error: BaseException) -> TurnwiseError:
        """Return what an error of the session comes of: the last status, if that says it."""
        status = self._sent.status
        if status in (401, 403):
            problem = f"{self._url} refuses it (status {status})"
            return UserError("env.kwargs.token_env", "(not shown)", problem, "set token_env or token_file")
        if not self._sent.has_answered:
            problem = f"no MCP server is there ({f'status {status}' if status else error})"
            return UserError("env.kwargs.url", self._url, problem, "start the server, or correct the address")
        return EnvError(f"the MCP server at {self._url} broke off ({f'status {status}' if status >= 400 else error})")


class Bounded(httpx2.AsyncHTTPTransport):
    """Ends answers beyond a size, and remembers the status of the last one."""

    status = 0  # 0: none
    has_answered = False  # whether one was no error

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        response = await super().handle_async_request(request)
        if request.method == "POST":
            self.status = response.status_code
            self.has_answered = self.has_answered or self.status < 400
        response.stream = Counted(response.stream)
        return response


class Counted(httpx2.AsyncByteStream):
    """The bytes of an answer."""

    def __init__(self, stream: Any) -> None:
        """Take them from there."""
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_BYTES
        async for part in self._stream:
            left -= len(part)
            if left < 0:
                raise httpx2.ReadError(f"an answer of more than {MAX_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()
