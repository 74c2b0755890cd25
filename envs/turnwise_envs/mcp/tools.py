"""A server's tools as an agent is shown them: names, schemas, checked arguments, and results as text.

What a server says is not believed: a schema is checked before it is shown, a pattern in it is never run (it could take
for ever), what it refers to is not fetched, and a result is cut to a size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from turnwise.errors import EnvError, InvalidAction

MAX_TOOLS = 256
MAX_SCHEMAS = 1_000_000
"""Characters of all schemas together."""

MAX_NAME = 64
NOT_RUN = ("pattern", "format", "patternProperties")
BY_NAME = ("properties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose value has schemas by name."""

AS_THEY_ARE = ("enum", "const", "default", "examples")


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a tool returned."""

    text: str
    is_error: bool
    value: Any  # as JSON: what is structured, or else what the text says


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """A tool as its server describes it."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool that an agent may call."""

    name: str  # as the agent says it
    real_name: str  # as the server does
    schema: dict[str, Any]
    validator: Any  # of the arguments

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments; InvalidAction, in one line, for what the schema does not allow."""
        given = dict(arguments)
        try:
            json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
            error = best_match(self.validator.iter_errors(given))
        except (ValueError, TypeError, RecursionError):
            raise InvalidAction(f"the arguments of {self.name} are not plain JSON") from None
        except Unresolvable:
            return given  # the schema leads elsewhere: the server checks
        if error is not None:
            where = "".join(f" {part}" for part in error.absolute_path)
            raise InvalidAction(f"{self.name}{where}: {' '.join(error.message.split())[:200]}")
        return given


def catalogue(offered: Sequence[Offered], taken: Sequence[str]) -> dict[str, Tool]:
    """Return the tools by the names that agents use, which are identifiers and none of `taken`.

    EnvError for a list that no agent can be shown: a name twice, a schema that is none, too much of it.
    """
    names = [tool.name for tool in offered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EnvError(f"the MCP server lists the tool {twice[0]!r} twice")
    tools: dict[str, Tool] = {}
    for each in offered:
        name = _identifier(each.name, {*taken, *tools})
        parameters = _shape(each)
        function = {"name": name, "description": each.description, "parameters": parameters}
        tools[name] = Tool(
            name=name,
            real_name=each.name,
            schema={"type": "function", "function": function},
            validator=jsonschema.Draft202012Validator(_safe(parameters), registry=Registry()),
        )
    if len(json.dumps([tool.schema for tool in tools.values()])) > MAX_SCHEMAS:
        raise EnvError(f"the MCP server's schemas have more than {MAX_SCHEMAS} characters; name fewer tools")
    return tools


def cut(text: str, most: int) -> str:
    """Return a text of at most about `most` characters, saying where it was cut."""
    return text if len(text) <= most else f"{text[:most]}\n[{len(text)} characters, {most} shown]"


def read_result(answer: Any) -> Result:
    """Return what `tools/call` answered; what is no text becomes a note."""
    text = "\n".join(_NOTES.get(block.type, _unknown)(block) for block in answer.content)
    structured = answer.structured_content
    if isinstance(structured, dict) and set(structured) == {"result"}:
        structured = structured["result"]  # as servers wrap what is no object
    if structured is not None and not text:
        text = structured if isinstance(structured, str) else json.dumps(structured)
    return Result(text=text, is_error=bool(answer.is_error), value=_json(text) if structured is None else structured)


def _embedded(block: Any) -> str:
    return str(getattr(block.resource, "text", f"[resource {block.resource.uri}]"))


def _media(block: Any) -> str:
    return f"[{block.type} {block.mime_type}, {len(block.data) * 3 // 4} bytes]"


def _unknown(block: Any) -> str:
    return f"[{block.type}]"


_NOTES: dict[str, Callable[[Any], str]] = {
    "text": lambda block: str(block.text),
    "image": _media,
    "audio": _media,
    "resource": _embedded,
    "resource_link": lambda block: f"[resource {block.uri}]",
}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _identifier(name: str, taken: set[str]) -> str:
    """Return a name of ASCII letters, digits and underscores that is not taken, near the server's."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:MAX_NAME] or "tool"
    plain = plain if not plain[0].isdigit() else f"t{plain}"
    names = (plain if number == 1 else f"{plain}_{number}" for number in range(1, MAX_TOOLS + len(taken) + 2))
    return next(each for each in names if each not in taken)


def _shape(tool: Offered) -> dict[str, Any]:
    """Return the schema of a tool's arguments with its properties as objects; EnvError for what is no schema."""
    shape = dict(tool.parameters)
    properties = shape.get("properties", {})
    try:
        if shape.get("type", "object") != "object" or not isinstance(properties, dict):
            raise ValueError("its arguments are no object")
        jsonschema.Draft202012Validator.check_schema(_safe(shape))
    except (ValueError, RecursionError, jsonschema.SchemaError) as error:
        said = " ".join(str(getattr(error, "message", error)).split())[:200]
        problem = f"the MCP server's tool {tool.name[:80]!r} has no usable schema ({said})"
        raise EnvError(f"{problem}; leave it out by naming others in `tools`") from None
    return {**shape, "type": "object", "properties": {key: _property(value) for key, value in properties.items()}}


def _property(schema: Any) -> dict[str, Any]:
    """Return a property's schema as an object whose items, if it has any, are one too."""
    plain = dict(schema) if isinstance(schema, dict) else {}
    if "items" in plain and not isinstance(plain["items"], dict):
        plain["items"] = {}
    return plain


def _safe(schema: Any) -> Any:
    """Return a schema without what would run patterns of the server's, and without what depends on these."""
    if isinstance(schema, list):
        return [_safe(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {*NOT_RUN, *(("additionalProperties", "unevaluatedProperties") if "patternProperties" in schema else ())}
    found = {}
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, dict):
            found[key] = {name: _safe(inner) for name, inner in value.items()}
        elif key not in left_out:
            found[key] = value if key in AS_THEY_ARE else _safe(value)
    return found
