"""`turnwise/OpenEnv-v0`: an environment that an OpenEnv server serves, through OpenEnv's own client.

The server's schema says what an action is. An action of one text field is the message's text; otherwise it is a tool
`step` with the schema's fields; a server of tools (MCP actions) offers these. Rewards: `outcome`, what the server
gives, its sum kept within -1 and 1; `format`, -1 for a malformed action. A task is `reset(seed)`; whether a seed
decides it is the server's affair. A server that is gone is a failure of the infrastructure, one that raises is the
environment's.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from turnwise.env import ToolCall, TurnEnv
from turnwise.errors import EnvError, InfraError, InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.adapters.bounded import Bounded
from turnwise_envs.adapters.calling import Tools
from turnwise_envs.adapters.package import by_name, load
from turnwise_envs.arguments import number, whole
from turnwise_envs.mcp.tools import Offered, cut

ENV_ID = "turnwise/OpenEnv-v0"
INSTALL = "openenv==0.10.0"
STEP, MAX_SCHEMA, MAX_SHOWN = "step", 1_000_000, 100_000
TOOL_NAME, CALL_FIELDS, LIST_TOOLS = "tool_name", {"tool_name", "arguments"}, {"type": "list_tools"}
APART = ("done", "reward", "metadata")
"""Fields of an observation that are not shown."""


class OpenEnvEnv(TurnEnv):
    """A session of an OpenEnv server."""

    needs = "openenv, a server"
    instructions = "Act in the environment; each answer shows what came of it."
    sample_actions = ("hello", "1", "step 1", '<tool_call>{"name": "step", "arguments": {}}</tool_call>')

    def __init__(
        self,
        *,
        url: str | None = None,
        reset: Mapping[str, Any] | None = None,
        max_turns: int = 50,
        timeout_s: float = 30.0,
        render_mode: str | None = None,
    ) -> None:
        """Ask the server for its schema; UserError if nobody answers there.

        `url`: its address, as `http://127.0.0.1:8000`. `reset`: further arguments of every reset. `max_turns`: the
        limit on turns. `timeout_s`: seconds for an answer, below `timeouts.step_s`.
        """
        super().__init__(render_mode)
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise UserError("env.kwargs.url", url, "no address", "write url=http://host:port")
        self._client_type = load(ENV_ID, "openenv.core.generic_client", INSTALL).GenericEnvClient
        self._url, self._reset = url, by_name("reset", reset)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self._timeout_s = number("timeout_s", timeout_s, 0.01, 3600)
        self._shape = _shape(url, self._timeout_s)
        properties = self._shape["properties"]
        self._has_tools = properties.keys() >= CALL_FIELDS
        texts = [key for key, value in properties.items() if isinstance(value, dict) and value.get("type") == "string"]
        self._text = texts[0] if len(properties) == len(texts) == 1 else None
        self._tools = Tools()
        if self._text is None and not self._has_tools:
            described = str(self._shape.get("description", ""))
            self._tools = Tools([Offered(name=STEP, description=described, parameters=self._shape)])
        self._client: Any = None
        self._socket: Any = None  # of the session that was reset
        self._earned = Bounded()
        self._call: ToolCall | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The server's tools (from the first reset on), or `step`; none where an action is a text."""
        return self._tools.schemas

    def begin(self, options: Mapping[str, Any]) -> str:
        """Begin an episode there, in another session where the last one has ended."""
        self._earned, self._call = Bounded(), None
        answer = self._ask("reset", seed=self.task_seed, **self._reset)
        if self._has_tools:
            found = self._ask("step", LIST_TOOLS).observation.get("tools", ())
            self._tools = Tools([_offered(tool) for tool in found])
        return _shown(answer.observation)

    def act(self, action: Message) -> Message:
        """Take a step there."""
        self._call = None
        answer = self._ask("step", self._read(action))
        self.reward("outcome", self._earned.add(answer.reward))
        if answer.done:
            self.finish()
        return {"role": "user" if self._call is None else "tool", "content": _shown(answer.observation)}

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed action on the channel `format`."""
        self.reward("format", -1.0)

    def close(self) -> None:
        """End the session; a reset begins another."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, RuntimeError, _closed()):
                client.close()

    def _read(self, action: Message) -> dict[str, Any]:
        """Return the action as the server takes it; InvalidAction."""
        if self._text is not None:
            return {self._text: str(action["content"])}
        read = self._tools.read(action)
        if read is None:
            names = ", ".join(schema["function"]["name"] for schema in self.tools)
            raise InvalidAction(f"expected a call of {names or 'a tool, of which there are none'}")
        tool, self._call = read
        arguments = dict(self._call.arguments)
        return (
            {"type": "call_tool", TOOL_NAME: tool.real_name, "arguments": arguments} if self._has_tools else arguments
        )

    def _ask(self, verb: str, *action: Any, **given: Any) -> Any:
        """Return a result of the server's; a session in which that failed is not used again."""
        try:
            if self._client is None:
                self._client = self._client_type(base_url=self._url, message_timeout_s=self._timeout_s).sync()
                self._client.connect()
            result = getattr(self._client, verb)(*action, **given)
            socket = self._client._async._ws  # the client connects again, to another session, without a word
            if verb == "step" and socket is not self._socket:
                raise ConnectionError("the session was lost")
            self._socket = socket
        except RuntimeError as error:
            if "VALIDATION_ERROR" in str(error) and verb == "step":
                raise InvalidAction(" ".join(str(error).split())[:500]) from None
            self.close()
            kind = InfraError if "CAPACITY_REACHED" in str(error) else EnvError
            raise kind(f"the OpenEnv server at {self._url}: {error}") from error
        except (OSError, _closed()) as error:
            self.close()
            raise InfraError(f"the OpenEnv server at {self._url} is gone ({type(error).__name__}: {error})") from error
        if not isinstance(result.observation, dict):
            raise EnvError(f"the OpenEnv server at {self._url} sent an observation that is no object")
        return result

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        """Add `call`, what was carried out."""
        info = super()._info(is_valid=is_valid)
        if is_valid and self._call is not None and self.num_turns:
            info["call"] = {"name": self._call.name, "arguments": dict(self._call.arguments)}
        return info


def _closed() -> type[Exception]:
    from websockets.exceptions import WebSocketException

    return WebSocketException


def _shape(url: str, timeout_s: float) -> dict[str, Any]:
    """Return the schema of actions, without what every action has; UserError if there is none."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/schema", timeout=timeout_s) as answer:
            shape = json.loads(answer.read(MAX_SCHEMA))["action"]
        shape["properties"] = {key: value for key, value in shape["properties"].items() if key != "metadata"}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"no OpenEnv server answers there ({type(error).__name__}: {error})"
        raise UserError("env.kwargs.url", url, problem, "start it, or correct the address") from error
    return dict(shape)


def _offered(tool: Any) -> Offered:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise EnvError("the OpenEnv server lists what is no tool")
    return Offered(
        name=tool["name"],
        description=str(tool.get("description") or ""),
        parameters=dict(tool.get("input_schema") or {}),
    )


def _shown(observation: Mapping[str, Any]) -> str:
    """Return an observation as text: its one field that is a text, or all of them as JSON."""
    fields = {key: value for key, value in observation.items() if key not in APART}
    only = next(iter(fields.values()), "") if len(fields) <= 1 else None
    return cut(only if isinstance(only, str) else json.dumps(fields), MAX_SHOWN) or "nothing to be seen"
