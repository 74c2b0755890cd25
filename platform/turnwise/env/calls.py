"""Tool calls: the record, and the two text formats that spell one.

`hermes` is the JSON format of Hermes and Qwen models; `compact` is one for tiny models:
`name value | value`, items of a list separated by ` ; `. Environments and agents both read actions here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnwise.errors import InvalidAction
from turnwise.records import Message

_HERMES = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """One call as the policy wrote it; arguments are not checked against a schema yet."""

    name: str
    arguments: Mapping[str, Any]

    def as_openai(self) -> dict[str, Any]:
        """Return the entry of a message's `tool_calls`."""
        return {"type": "function", "function": {"name": self.name, "arguments": dict(self.arguments)}}


def parse_hermes(text: str) -> ToolCall:
    """Return the one call in `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; InvalidAction otherwise."""
    found = _HERMES.findall(text)
    if len(found) != 1:
        raise InvalidAction(f"expected one <tool_call>, found {len(found)}")
    try:
        data = json.loads(found[0])
    except json.JSONDecodeError as error:
        raise InvalidAction(f"the tool call is not JSON ({error.msg} at {error.pos})") from None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise InvalidAction('a tool call is {"name": ..., "arguments": {...}}')
    arguments = data.get("arguments", {})
    if not isinstance(arguments, dict):
        raise InvalidAction('"arguments" must be an object')
    return ToolCall(name=data["name"], arguments=arguments)


def parse_compact(text: str, tools: Sequence[Mapping[str, Any]]) -> ToolCall:
    """Return the call spelt `name value | value`, arguments in the schema's order; InvalidAction for an unknown tool."""
    name, _, rest = text.strip().partition(" ")
    parameters = _parameters(name, tools)
    values = [value.strip() for value in rest.split(" | ")] if rest.strip() else []
    if len(values) > len(parameters):
        raise InvalidAction(f"{name} takes at most {len(parameters)} arguments, got {len(values)}")
    return ToolCall(name=name, arguments={key: _compact_value(value, kind) for (key, kind), value in zip(parameters, values, strict=False)})


def spell_compact(call: ToolCall) -> str:
    """Return the compact text of a call."""
    values = [" ; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for value in call.arguments.values()]
    return f"{call.name} {' | '.join(values)}".strip()


def spell_hermes(call: ToolCall) -> str:
    """Return the Hermes text of a call."""
    return f"<tool_call>\n{json.dumps({'name': call.name, 'arguments': dict(call.arguments)})}\n</tool_call>"


def call_of(message: Message, tools: Sequence[Mapping[str, Any]]) -> ToolCall:
    """Return the call that an assistant message makes: its `tool_calls`, or its text in either format."""
    calls = message.get("tool_calls")
    if not calls:
        text = str(message.get("content", ""))
        return parse_hermes(text) if "<tool_call>" in text else parse_compact(text, tools)
    if len(calls) != 1:
        raise InvalidAction(f"expected one tool call, found {len(calls)}")
    function = calls[0].get("function", calls[0]) if isinstance(calls[0], Mapping) else None
    arguments = function.get("arguments", {}) if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not isinstance(arguments, Mapping):
        raise InvalidAction('a tool call is {"name": ..., "arguments": {...}}')
    return ToolCall(name=function["name"], arguments=arguments)


def _parameters(name: str, tools: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    for schema in tools:
        function = schema["function"]
        if function["name"] == name:
            properties = function["parameters"]["properties"]
            return [(key, str(value.get("type", "string"))) for key, value in properties.items()]
    known = ", ".join(str(schema["function"]["name"]) for schema in tools)
    raise InvalidAction(f"unknown tool {name[:40]}; expected one of {known}" if name else f"expected one of {known}")


def _compact_value(value: str, kind: str) -> Any:
    if kind == "array":
        return [item.strip() for item in value.split(";") if item.strip()]
    if kind in ("integer", "number"):
        try:
            return int(value) if kind == "integer" else float(value)
        except ValueError:
            return value
    return value.lower() == "true" if kind == "boolean" and value.lower() in ("true", "false") else value
