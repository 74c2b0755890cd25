"""The door: `/v1/chat/completions`, `/v1/models`, and `/mcp` where a session has an environment; Starlette.

The bearer token is the session's secret. Every error has OpenAI's shape: 400 for what is not understood, 401 for no
session, 403 for one that may not ask any more, 413, 502 for a failure of the engine, which clients try again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from turnwise.errors import BoundaryError
from turnwise.gateway import asked, replies
from turnwise.gateway.for_tools import ForTools
from turnwise.gateway.refusal import Refused
from turnwise.gateway.session import Sessions

Value = TypeVar("Value")


def application(sessions: Sessions, model: str, tools: ForTools) -> Any:
    """Return the ASGI application; `model` is the name that replies bear."""
    door = Door(sessions, model)
    routes = [
        Route("/v1/chat/completions", door.complete, methods=["POST"]),
        Route("/v1/models", door.models, methods=["GET"]),
        Route("/mcp", tools),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, 404: _unknown, 405: _unknown}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=tools.lifespan)


class Door:
    """Answers the requests for the policy."""

    def __init__(self, sessions: Sessions, model: str) -> None:
        """Of these sessions."""
        self._sessions, self._model = sessions, model

    async def models(self, request: Request) -> Response:
        """List the model."""
        self._sessions.of(request.headers.get("authorization", ""))
        return JSONResponse(replies.models(self._model))

    async def complete(self, request: Request) -> Response:
        """Answer one request; a caller who leaves early has asked nothing."""
        session = self._sessions.of(request.headers.get("authorization", ""))
        wanted = asked.read(await _body(request, session.limits.max_body))
        try:
            reply = await _unless_gone(request, session.reply(wanted))
        except BoundaryError as error:
            raise Refused(str(error), status=502, code=error.kind.value) from error
        if wanted.streams:
            return StreamingResponse(replies.events(reply, wanted, self._model), media_type="text/event-stream")
        return JSONResponse(replies.whole(reply, wanted, self._model))


async def _body(request: Request, max_bytes: int) -> Any:
    """Return the JSON of a request; Refused."""
    read = bytearray()
    try:
        async for chunk in request.stream():
            read += chunk
            if len(read) > max_bytes:
                raise Refused(f"the body has more than {max_bytes} bytes", status=413)
        return json.loads(read)
    except (ValueError, RecursionError, ClientDisconnect) as error:
        raise Refused(f"the body is no JSON ({error})") from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """Return what is worked out; the work is cancelled when the caller leaves, or this call is."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refused("the caller has left", status=499)
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(_: Request, error: Any) -> Response:
    return JSONResponse(error.as_openai(), error.status)


async def _unknown(request: Request, error: Any) -> Response:
    return await _refused(
        request, Refused(f"nothing is at {request.method} {request.url.path}", status=error.status_code)
    )
