"""Actions of environments whose tools another maker describes: a call of one of them, or words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.env.calls import ToolCall, call_of, unknown_tool
from turnwise.records import Message
from turnwise_envs.mcp.tools import Offered, Tool, catalogue


class Tools:
    """Tools by name."""

    def __init__(self, offered: Sequence[Offered] = (), taken: Sequence[str] = ()) -> None:
        """Check the schemas; EnvError for one that is none."""
        self._catalogue: Mapping[str, Tool] = catalogue(offered, taken)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """What an agent is shown."""
        return [tool.schema for tool in self._catalogue.values()]

    def read(self, action: Message) -> tuple[Tool, ToolCall] | None:
        """Return the tool that a message calls, its arguments checked; None for words. InvalidAction otherwise."""
        text = str(action.get("content", ""))
        is_call = bool(action.get("tool_calls")) or "<tool_call>" in text
        if not is_call and (text.split(None, 1) or [""])[0] not in self._catalogue:
            return None
        call = call_of(action, self.schemas)
        tool = self._catalogue.get(call.name)
        if tool is None:
            raise unknown_tool(call.name, self.schemas)
        return tool, ToolCall(name=call.name, arguments=tool.check(call.arguments))
