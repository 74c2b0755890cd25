"""An environment as a server of the Model Context Protocol, for agents that speak it.

The environment's tools are the server's, or one tool `act(text)` where it has none; `begin_episode(seed, split)` starts
an episode and returns its first observation. A session of the protocol has an environment of its own, so that clients
without sessions are turned away. Rewards are told only where that is wanted, and gold never is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from turnwise.env.wire import dump
from turnwise.errors import TurnwiseError
from turnwise.serve.answers import reset, step
from turnwise.serve.sessions import NoSession, Sessions

SESSION_ID = "mcp-session-id"
ACT: dict[str, Any] = {
    "name": "act",
    "description": "Say something in the environment.",
    "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
BEGIN_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "seed": {"type": "integer", "description": "decides the task; drawn if left out"},
        "split": {"type": "string", "enum": ["train", "eval"]},
    },
    "required": [],
}


class ForAgents:
    """The ASGI application at `/mcp`."""

    def __init__(self, sessions: Sessions, name: str, shown: Mapping[str, Any], *, tells_rewards: bool) -> None:
        """`name` is the environment's id, `shown` what it shows of itself (`instructions`, `tools`)."""
        self._sessions, self._tells_rewards = sessions, tells_rewards
        self._worlds: dict[str, str] = {}  # our session by the protocol's
        functions = [schema["function"] for schema in shown["tools"]] or [ACT]
        self._has_tools, taken = bool(shown["tools"]), {function["name"] for function in functions}
        self._begin = next(
            each for each in ("begin_episode", *(f"begin_episode_{n}" for n in range(2, 99))) if each not in taken
        )
        begin = {"name": self._begin, "description": "Start an episode; returns what you see first."}
        self._tools = [
            types.Tool(
                name=each["name"], description=each.get("description", ""), input_schema=dict(each["parameters"])
            )
            for each in [{**begin, "parameters": BEGIN_ARGUMENTS}, *functions]
        ]
        server: Any = Server(
            name, instructions=shown["instructions"] or None, on_list_tools=self._list, on_call_tool=self._call
        )
        server.add_request_handler("server/discover", types.RequestParams, self._discover)
        limits = sessions.limits
        self._manager = StreamableHTTPSessionManager(
            server,
            session_idle_timeout=limits.idle_s,
            max_sessions=limits.max_sessions,
            max_request_body_size=limits.max_body,
        )

    def run(self) -> AbstractAsyncContextManager[None]:
        """Serve for as long as the context is open."""
        running: AbstractAsyncContextManager[None] = self._manager.run()
        return running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; the end of the protocol's session is that of the environment's."""
        await self._manager.handle_request(scope, receive, send)
        if scope["method"] == "DELETE":
            key = dict(scope["headers"]).get(SESSION_ID.encode(), b"").decode("latin-1")
            self._sessions.close(self._worlds.pop(key, ""))

    async def _list(self, context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=self._tools)

    async def _discover(self, context: Any, params: Any) -> Any:
        """Say that sessions begin with a handshake."""
        return types.DiscoverResult(
            supported_versions=list(HANDSHAKE_PROTOCOL_VERSIONS), capabilities=types.ServerCapabilities()
        )

    async def _call(self, context: Any, params: Any) -> Any:
        """Carry out one call; an error of the environment's is the tool's, in one line."""
        key = context.request.headers.get(SESSION_ID) if context.request is not None else None
        if key is None:
            return _said("error: this server keeps an environment for each session: begin with `initialize`", True)
        try:
            return await self._done(key, params.name, params.arguments or {})
        except NoSession:
            self._worlds.pop(key, None)
            return _said(f"error: no episode has begun, or it has ended: call {self._begin}", True)
        except TurnwiseError as error:
            return _said(f"error: {' '.join(str(error).split())[:500]}", True)
        except Exception as error:  # noqa: BLE001 - of an environment
            return _said(f"error: the environment failed ({type(error).__name__})", True)

    async def _done(self, key: str, name: str, arguments: Mapping[str, Any]) -> Any:
        if name == self._begin:
            self._worlds = {each: world for each, world in self._worlds.items() if world in self._sessions}
            if key not in self._worlds:
                self._worlds[key] = self._sessions.open({})
            given = {"seed": arguments.get("seed"), "options": {"split": arguments.get("split", "train")}}
            answer = await self._asked(key, lambda env: reset(env, given))
            return _said(_text(answer), False)
        call = {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
        action: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [call]}
        if not self._has_tools:
            action = {"role": "assistant", "content": arguments.get("text") if name == ACT["name"] else None}
        answer = await self._asked(key, lambda env: step(env, {"action": action}))
        told: dict[str, Any] = {flag: answer[flag] for flag in ("terminated", "truncated")}
        if self._tells_rewards:
            told |= {"events": answer["info"].get("events", ()), "reward": answer["reward"]}
        return _said(_text(answer), not answer["info"].get("is_valid", True), told)

    async def _asked(self, key: str, function: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            await self._sessions.call(self._worlds.get(key, ""), lambda env: dump(function(env)))
        )
        return answer


def _text(answer: Mapping[str, Any]) -> str:
    return "\n\n".join(str(message["content"]) for message in answer["messages"])


def _said(text: str, is_error: bool, told: Mapping[str, Any] | None = None) -> Any:
    structured = None if told is None else dict(told)
    return types.CallToolResult(
        content=[types.TextContent(text=text)], is_error=is_error, structured_content=structured
    )
