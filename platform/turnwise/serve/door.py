"""The door: one address for rollout elsewhere (`/v1/VERB`, JSON) and for agents that speak MCP (`/mcp`).

Every request needs the token and has a limit on its size. The plain verbs are `open`, `reset`, `step`, `ask` and
`close`: an object with `session` and what `answers.py` reads, answered with an object, or with `{"error": ...}` and a
status: 400 for what is no request, 401, 404 for no session, 413, 422 for a user's mistake, 500 for a failure of the
environment, 503 where there are too many sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from turnwise.env.wire import SESSION, dump, write_error
from turnwise.errors import UserError
from turnwise.serve.answers import VERBS, opened
from turnwise.serve.for_agents import ForAgents
from turnwise.serve.sessions import Full, NoSession, Sessions

SWEEP_S = 5.0
"""Seconds between two looks for idle sessions, at most."""


def application(sessions: Sessions, agents: ForAgents, token: str) -> Any:
    """Return the whole ASGI application."""
    plain = Plain(sessions)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(sessions))
        try:
            async with agents.run():
                yield
        finally:
            sweeping.cancel()
            sessions.close_all()

    routes = [Route("/v1/{verb}", plain.answer, methods=["POST"]), Route("/mcp", agents)]
    inner = RequestBodyLimitMiddleware(Starlette(routes=routes, lifespan=lifespan), sessions.limits.max_body)
    return Guarded(inner, token)


class Guarded:
    """Lets requests with the token through."""

    def __init__(self, app: Any, token: str) -> None:
        """Stand before `app`."""
        self._app, self._wanted = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 401 to all others."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or (scope["type"] == "http" and hmac.compare_digest(given, self._wanted)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _refused(401, "token", "the bearer token is missing or wrong")(scope, receive, send)


class Plain:
    """The verbs for rollout."""

    def __init__(self, sessions: Sessions) -> None:
        """Of these sessions."""
        self._sessions = sessions

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        verb = str(request.path_params["verb"])
        try:
            given = json.loads(await request.body())
        except (ValueError, RecursionError, ClientDisconnect) as error:
            return _refused(400, "request", f"the body is no JSON ({error})")
        if not isinstance(given, dict):
            return _refused(400, "request", "the body is no JSON object")
        try:
            return Response(await self._done(verb, given), media_type="application/json")
        except NoSession as error:
            return _refused(404, SESSION, str(error))
        except Exception as error:  # noqa: BLE001 - of an environment: it becomes the caller's failure
            status = 422 if isinstance(error, UserError) else 503 if isinstance(error, Full) else 500
            return JSONResponse({"error": write_error(error, verb)}, status)

    async def _done(self, verb: str, given: dict[str, Any]) -> bytes:
        key = str(given.get("session", ""))
        if verb == "open":
            key = self._sessions.open(given.get("kwargs") or {})
            return await self._sessions.call(key, lambda env: dump({"session": key, **opened(env)}))
        if verb == "close":
            self._sessions.close(key)
            return b"{}"
        if verb not in VERBS:
            raise UserError("verb", verb, "no such verb", f"one of: open, {', '.join(VERBS)}, close")
        return await self._sessions.call(key, lambda env: dump(VERBS[verb](env, given)))


def _refused(status: int, kind: str, cause: str) -> Response:
    return JSONResponse({"error": {"kind": kind, "cause": cause}}, status)


async def _sweep(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(min(SWEEP_S, sessions.limits.idle_s / 4))
        sessions.sweep()
