"""Calls of an environment that `turnwise env serve` serves: JSON over HTTP, one connection that is kept.

A step is never sent twice, since nobody knows whether the first one was carried out.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from turnwise.env.wire import SESSION, read_error
from turnwise.errors import EnvError, InfraError, UserError

MAX_ANSWER = 64 * 2**20
"""Bytes of an answer."""


class SessionOver(InfraError):  # noqa: N818 - what is the case
    """The session has ended: nobody asked anything for too long, or the server was started again."""


class Unreached(InfraError):  # noqa: N818
    """Nobody answered."""


class Caller:
    """Asks one server."""

    def __init__(self, url: Any, timeout_s: float) -> None:
        """UserError for what is no address; nothing is asked yet."""
        parts = urlsplit(url) if isinstance(url, str) else None
        try:
            port = parts and parts.port
        except ValueError:
            parts = None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("env.kwargs.url", url, "no address", "write http://host:port, as the server said it")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=timeout_s)
        self._url, self._path = url, parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"}

    def carry(self, token: str) -> None:
        """Show a token from now on."""
        self._headers["Authorization"] = f"Bearer {token}"

    def ask(self, verb: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one verb. Unreached, SessionOver, UserError, or the error that happened there."""
        status, body = self._exchange(verb, json.dumps(given).encode())
        if status == 401:
            problem = f"{self._url} refuses the token"
            raise UserError(
                "env.kwargs.token_env", "(not shown)", problem, "set token_env or token_file to the server's"
            )
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or (status != 200 and "error" not in answer):
            problem = f"what answers there serves no environment (status {status})"
            raise UserError("env.kwargs.url", self._url, problem, "give the address that `turnwise env serve` says")
        if status == 200:
            return answer
        error = answer["error"]
        if isinstance(error, dict) and error.get("kind") == SESSION:
            raise SessionOver(str(error.get("cause"))[:200])
        raise read_error(error)

    def close(self) -> None:
        """Close the connection; it is opened again by the next call."""
        self._connection.close()

    def _exchange(self, verb: str, body: bytes) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", f"{self._path}/v1/{verb}", body, self._headers)
            response = self._connection.getresponse()
            found = response.read(MAX_ANSWER + 1)
            if len(found) > MAX_ANSWER:
                raise EnvError(f"{self._url} answered more than {MAX_ANSWER} bytes")
            return response.status, found
        except (OSError, http.client.HTTPException) as error:
            with contextlib.suppress(OSError):
                self._connection.close()
            raise Unreached(f"{type(error).__name__}: {error}") from error
