"""An episode's environment as a server of the Model Context Protocol, for the program that plays it.

The tools are the environment's, or one tool `act(text)` where it has none. The session's secret says which episode is
meant, so the server keeps no sessions of its own: a plain POST of `tools/call` is answered, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request

from turnwise.errors import TurnwiseError
from turnwise.gateway.play import Play
from turnwise.gateway.refusal import Refused
from turnwise.gateway.session import Limits, Session, Sessions
from turnwise.records import Message
from turnwise.serve.for_agents import ACT


class ForTools:
    """The ASGI application at `/mcp`."""

    def __init__(self, sessions: Sessions) -> None:
        """Of these sessions."""
        self._sessions = sessions
        server: Any = Server("turnwise", on_list_tools=self._list, on_call_tool=self._call)
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=Limits.max_body
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        """Serve for as long as the context is open."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; Refused without a session that has an environment."""
        self._played(Request(scope))
        await self._manager.handle_request(scope, receive, send)

    def _played(self, request: Any) -> tuple[Session, Play]:
        session = self._sessions.of(request.headers.get("authorization", ""))
        if session.play is None:
            raise Refused("the session has no environment", status=403)
        return session, session.play

    async def _list(self, context: Any, params: Any) -> Any:
        _, play = self._played(context.request)
        functions = [schema["function"] for schema in play.opening.tools] or [ACT]
        tools = [
            types.Tool(
                name=each["name"], description=each.get("description", ""), input_schema=dict(each["parameters"])
            )
            for each in functions
        ]
        return types.ListToolsResult(tools=tools)

    async def _call(self, context: Any, params: Any) -> Any:
        """Carry out one call; whatever fails is the tool's error, in one line, and the episode's own affair."""
        session, play = self._played(context.request)
        action = _action(play, params.name, params.arguments or {})
        try:
            with session.in_use():
                answer = await play.act(action, len(session.exchanges))
        except (Refused, TurnwiseError) as error:
            return _said(f"error: {error}", is_error=True)
        text = "\n\n".join(str(message["content"]) for message in answer.messages)
        return _said(text, is_error=not answer.is_valid, is_over=play.is_over)


def _action(play: Play, name: str, arguments: dict[str, Any]) -> Message:
    """Return a call as the assistant message that the environment takes."""
    if not play.opening.tools:
        return {"role": "assistant", "content": str(arguments.get("text", "")) if name == ACT["name"] else ""}
    call = {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _said(text: str, *, is_error: bool, is_over: bool = False) -> Any:
    told = {"is_over": True} if is_over else None
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error, structured_content=told)
