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
_BAR = re.compile(r"(?:^|\s+)\|(?:\s+|$)")
_SHAPE = 'a tool call is {"name": ..., "arguments": {...}}'


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
    return _call_from(_load_json(found[0]))


def parse_compact(text: str, tools: Sequence[Mapping[str, Any]]) -> ToolCall:
    """Return the call spelt `name value | value`, in the schema's order; InvalidAction for an unknown tool."""
    name, *rest = text.split(None, 1) or [""]
    parameters = _parameters(name, tools)
    values = [value.strip() for value in _BAR.split(rest[0])] if rest else []
    if len(values) > len(parameters):
        raise InvalidAction(f"{name} takes at most {len(parameters)} arguments, got {len(values)}")
    pairs = zip(parameters.items(), values, strict=False)
    return ToolCall(name=name, arguments={key: _compact_value(value, schema) for (key, schema), value in pairs})


def in_order(call: ToolCall, tools: Sequence[Mapping[str, Any]]) -> ToolCall:
    """Return the call with its arguments in the schema's order, unknown ones left out; InvalidAction, unknown tool."""
    known = _parameters(call.name, tools)
    return ToolCall(name=call.name, arguments={key: call.arguments[key] for key in known if key in call.arguments})


def spell_compact(call: ToolCall) -> str:
    """Return the compact text of a call."""
    values = [
        " ; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for value in call.arguments.values()
    ]
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
    if not isinstance(calls, list | tuple) or len(calls) != 1:
        found = len(calls) if isinstance(calls, list | tuple) else "something else"
        raise InvalidAction(f"expected one tool call, found {found}")
    return _call_from(calls[0].get("function", calls[0]) if isinstance(calls[0], Mapping) else None)


def unknown_tool(name: str, tools: Sequence[Mapping[str, Any]]) -> InvalidAction:
    """Return the error that answers a call of a tool that there is not."""
    known = ", ".join(str(schema["function"]["name"]) for schema in tools)
    return InvalidAction(f"unknown tool {name[:40]}; expected one of {known}" if name else f"expected one of {known}")


def _call_from(data: Any) -> ToolCall:
    """Return the call that `{"name": ..., "arguments": ...}` spells; arguments may be JSON text, as OpenAI has them."""
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise InvalidAction(_SHAPE)
    arguments = data.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _load_json(arguments)
    if not isinstance(arguments, Mapping):
        raise InvalidAction('"arguments" must be an object')
    return ToolCall(name=data["name"], arguments=arguments)


def _load_json(text: str) -> Any:
    """Return what JSON text holds; InvalidAction for what is none, is too deep, or holds what UTF-8 cannot."""
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InvalidAction(f"the tool call is not JSON ({error.msg} at {error.pos})") from None
    except (ValueError, RecursionError):
        raise InvalidAction("the tool call is not JSON that can be read") from None
    return data


def _parameters(name: str, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return the schemas of a tool's parameters by name; InvalidAction for an unknown tool."""
    for schema in tools:
        if schema["function"]["name"] == name:
            properties: Mapping[str, Mapping[str, Any]] = schema["function"]["parameters"]["properties"]
            return properties
    raise unknown_tool(name, tools)


def _compact_value(value: str, schema: Mapping[str, Any]) -> Any:
    """Return a value of the schema's type; the text itself where it spells none, for the tool's check to refuse."""
    kind = schema.get("type", "string")
    if kind == "array":
        items = [item.strip() for item in value.split(";")]
        return [_compact_value(item, schema.get("items", {})) for item in items if item]
    if kind in ("integer", "number"):
        try:
            return int(value) if kind == "integer" else float(value)
        except ValueError:
            return value
    return value.lower() == "true" if kind == "boolean" and value.lower() in ("true", "false") else value
