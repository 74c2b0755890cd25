"""Other names for tools and parameters, as if the services had changed their schemas after training.

Everything within goes by the first names; the environment translates what the policy reads and writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from turnwise.env import ToolCall
from turnwise.env.tools import Tool

OTHER_TOOLS: Final = {
    "balance": "funds",
    "fee": "rate",
    "pay": "transfer",
    "agenda": "schedule",
    "book": "reserve",
    "cancel": "withdraw",
    "inbox": "messages",
    "forward": "relay",
    "read": "view",
    "share": "grant",
    "delete": "erase",
    "ticket": "issue",
    "assign": "delegate",
    "resolve": "settle",
}

OTHER_PARAMETERS: Final = {
    "to": "recipient",
    "amount": "value",
    "person": "contact",
    "day": "weekday",
    "hour": "time",
    "mail": "message",
    "file": "document",
    "number": "id",
}

RENAMED: Final = ("nothing", "tools", "parameters", "both")
"""What may have other names."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The names that the policy reads, by those used within; what is missing keeps its name."""

    tools: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, renamed: str) -> Naming:
        """Return the names where this (one of `RENAMED`) is renamed."""
        tools = OTHER_TOOLS if renamed in ("tools", "both") else {}
        return cls(tools, OTHER_PARAMETERS if renamed in ("parameters", "both") else {})

    def shown(self, call: ToolCall) -> ToolCall:
        """Return a call as the policy would write it."""
        return _translated(call, self.tools, self.parameters) if self.tools or self.parameters else call

    def meant(self, call: ToolCall) -> ToolCall:
        """Return what a call of the policy's means."""
        if not self.tools and not self.parameters:
            return call
        return _translated(call, _inverse(self.tools), _inverse(self.parameters))

    def declared(self, tools: Mapping[str, Tool]) -> dict[str, Tool]:
        """Return tools under the names that the policy reads."""
        renamed = [self._declared(tool) for tool in tools.values()]
        return {tool.name: tool for tool in renamed}

    def _declared(self, tool: Tool) -> Tool:
        function: Mapping[str, Any] = tool.schema["function"]
        shape = function["parameters"]
        properties = {self.parameters.get(key, key): value for key, value in shape["properties"].items()}
        required = [self.parameters.get(key, key) for key in shape["required"]]
        name = self.tools.get(tool.name, tool.name)
        parameters = {**shape, "properties": properties, "required": required}
        schema = {**tool.schema, "function": {**function, "name": name, "parameters": parameters}}
        checks = {self.parameters.get(key, key): value for key, value in tool.parameters.items()}
        return replace(tool, name=name, schema=schema, parameters=checks)


def _translated(call: ToolCall, tools: Mapping[str, str], parameters: Mapping[str, str]) -> ToolCall:
    arguments = {parameters.get(key, key): value for key, value in call.arguments.items()}
    return ToolCall(name=tools.get(call.name, call.name), arguments=arguments)


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {other: name for name, other in names.items()}
