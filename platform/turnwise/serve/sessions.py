"""Sessions: environments of callers elsewhere, each in a thread of its own, under limits.

A session ends when it is closed, when nobody has asked it anything for a while, and when its environment raises or is
out of time; the environment is closed then. One call at a time; what is asked meanwhile waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium

from turnwise.errors import EnvError, InfraError, TurnwiseError, UserError
from turnwise.rollout.threads import CallThread, CallTimeoutError, LostThreads

Value = TypeVar("Value")
Environment = gymnasium.Env[Any, Any]


class NoSession(TurnwiseError):  # noqa: N818 - what is the case
    """There is no such session, or no longer."""


class Full(InfraError):  # noqa: N818
    """There are as many sessions as there may be."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What callers may use."""

    max_sessions: int = 64  # threads that hang in an environment count as one each
    idle_s: float = 600.0  # seconds without a call after which a session ends
    call_s: float = 120.0  # seconds that a call of the environment may take
    max_body: int = 16 * 2**20  # bytes of a request


class Session:
    """One environment in its thread."""

    def __init__(self, make: Callable[[], Environment], lost: LostThreads) -> None:
        """`make` runs in the thread, at the first call."""
        self._make = make
        self._env: Environment | None = None
        self._thread = CallThread("served", lost, at_end=self._close_env)
        self._lock = asyncio.Lock()
        self._asked = 0  # calls that run or wait
        self._last = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last call ended."""
        return 0.0 if self._asked else time.monotonic() - self._last

    async def call(self, function: Callable[[Environment], Value], limit_s: float) -> Value:
        """Return what a function of the environment returns; NoSession if it was closed meanwhile."""
        self._asked += 1
        try:
            async with self._lock:
                if self._thread.is_over:
                    raise NoSession("the session has ended")
                return await self._thread.call(lambda: function(self._world()), limit_s)
        finally:
            self._asked -= 1
            self._last = time.monotonic()

    def close(self) -> None:
        """Let it end after what it is doing."""
        self._thread.close()

    def _world(self) -> Environment:
        self._env = self._env or self._make()
        return self._env

    def _close_env(self) -> None:
        """Close the environment if there is one; what its closing raises concerns nobody any more."""
        if self._env is not None:
            with contextlib.suppress(Exception):
                self._env.close()


class Sessions:
    """All sessions of a server."""

    def __init__(
        self, make: Callable[[Mapping[str, Any]], Environment], limits: Limits, allowed: Collection[str] = ()
    ) -> None:
        """`make` builds an environment with a caller's arguments, whose names are among `allowed`."""
        self.limits = limits
        self._make, self._allowed, self._lost = make, tuple(allowed), LostThreads()
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: object) -> bool:
        return key in self._open

    def open(self, kwargs: Mapping[str, Any]) -> str:
        """Return the key of a new session; Full, or UserError for an argument that callers may not give."""
        for name, value in kwargs.items():
            if name not in self._allowed:
                remedy = f"leave it out, or serve with --allow {name}"
                raise UserError(f"env.kwargs.kwargs.{name}", value, "the server does not take it from callers", remedy)
        if len(self._open) + self._lost.now >= self.limits.max_sessions:
            raise Full(f"the server has all of its {self.limits.max_sessions} sessions")
        key = secrets.token_urlsafe(16)
        self._open[key] = Session(lambda: self._make(kwargs), self._lost)
        return key

    async def call(self, key: str, function: Callable[[Environment], Value]) -> Value:
        """Return what a function of the session's environment returns; the session ends with whatever it raises."""
        session = self._open.get(key)
        if session is None:
            raise NoSession("no such session, or it has ended")
        try:
            return await session.call(function, self.limits.call_s)
        except CallTimeoutError as error:
            self.close(key)
            raise EnvError(f"the environment: {error}") from None
        except BaseException:
            self.close(key)
            raise

    def close(self, key: str) -> None:
        """End a session, if it is there."""
        session = self._open.pop(key, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """End them all."""
        for key in list(self._open):
            self.close(key)

    def sweep(self) -> None:
        """End those that nobody has asked anything for a while."""
        for key, session in list(self._open.items()):
            if session.idle_s > self.limits.idle_s:
                self.close(key)
