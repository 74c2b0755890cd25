"""Functions as tools: the wheel's function documents become JSON schemas, and arguments are checked against them.

A number is a float wherever the document says so, in the ground truth as in a policy's call: 5 and 5.0 are one call in
every format of actions. Nothing else is converted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from turnwise.env.calls import ToolCall
from turnwise.errors import InvalidAction

Schema = dict[str, Any]

MAX_PRECISION = 100
"""Digits that a calculation may ask for; more would only take time."""

_KINDS = {"dict": "object", "float": "number"}  # the documents' names of types that JSON schemas name otherwise
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
_MAX_INTEGER = 2**53


def schema_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tool schema that a function document makes, without what it says of responses."""
    parameters = _shape(document["parameters"])
    described = {"name": document["name"], "description": document["description"], "parameters": parameters}
    return {"type": "function", "function": described}


def checked(call: ToolCall, schema: Schema) -> ToolCall:
    """Return the call with numbers as the document has them; InvalidAction (one line) if its arguments do not fit."""
    shape = schema["function"]["parameters"]
    missing = [key for key in shape["required"] if key not in call.arguments]
    if missing:
        raise InvalidAction(f"{call.name} needs {', '.join(missing)}")
    arguments = _checked_object(call.arguments, shape, call.name, "argument")
    if arguments.get("precision", 0) > MAX_PRECISION:
        raise InvalidAction(f"{call.name} needs precision to be at most {MAX_PRECISION}")
    return ToolCall(name=call.name, arguments=arguments)


def _shape(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of a document in the words of JSON schemas; a default of "None" means null."""
    kind = _KINDS.get(part["type"], part["type"])
    shape = {**part, "type": kind}
    if kind == "object":
        shape["properties"] = {key: _shape(item) for key, item in part["properties"].items()}
    if "items" in part:
        shape["items"] = _shape(part["items"])
    if part.get("default") == "None":
        shape["default"] = None
    return shape


def _checked_object(value: Mapping[str, Any], shape: Schema, owner: str, noun: str) -> dict[str, Any]:
    properties = shape["properties"]
    unknown = [key for key in value if key not in properties]
    if unknown:
        known = ", ".join(properties) or "none"
        raise InvalidAction(f"{owner} has no {noun} {str(unknown[0])[:40]}; expected {known}")
    return {key: _checked(item, properties[key], owner, key) for key, item in value.items()}


def _checked(value: Any, shape: Schema, owner: str, key: str) -> Any:
    kind = shape["type"]
    if value is None and "default" in shape and shape["default"] is None:
        return None
    if not _fits(value, kind):
        raise InvalidAction(f"{owner} needs {key} to be {_WORDS[kind]}")
    if kind == "array":
        return [_checked(item, shape["items"], owner, f"each item of {key}") for item in value]
    if kind == "object":
        return _checked_object(value, shape, f"{key} of {owner}", "entry")
    return float(value) if kind == "number" else value


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float) and abs(value) <= 1e308 and not math.isnan(value)
    if kind == "integer":
        return isinstance(value, int) and abs(value) <= _MAX_INTEGER
    if kind == "string":
        return isinstance(value, str) and _is_unicode(value)
    return isinstance(value, list if kind == "array" else Mapping)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
