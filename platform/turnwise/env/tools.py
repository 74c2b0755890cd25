"""`ToolEnv`: an environment whose actions are tool calls. Annotated methods marked `@tool` are the tools.

A subclass writes `begin` and its tools; this class makes their JSON schemas (once a class, from type hints and
docstrings), reads a call from an assistant message, checks its arguments and calls the method. Supported types: str,
int, float, bool, Literal, lists of the first four, and `X | None`. It does not convert: a wrong type is refused.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, Union

from turnwise.env.base import Observation, TurnEnv
from turnwise.env.calls import ToolCall, call_of, unknown_tool
from turnwise.errors import InvalidAction
from turnwise.records import Message

Method = TypeVar("Method", bound=Callable[..., Observation])

_MARK = "__turnwise_tool__"
_MISSING: Any = inspect.Parameter.empty
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_DOC_LINE = re.compile(r"\s*(?::param\s+)?(\w+)\s*(?:\([^)]*\))?\s*:\s+(\S.*)")


def tool(method: Method) -> Method:
    """Mark a method (of a `ToolEnv`, or of a class for `read_tools`) as a tool that actions may call."""
    setattr(method, _MARK, True)
    return method


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of a tool."""

    annotation: Any  # a supported type
    default: Any  # `_MISSING` where the caller must give a value

    @property
    def is_required(self) -> bool:
        """Whether a call must give it."""
        return self.default is _MISSING


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """One tool as its class declares it."""

    name: str
    schema: Mapping[str, Any]  # {"type": "function", "function": {...}}
    parameters: Mapping[str, Parameter]  # in order

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments to call with; InvalidAction (one line) for a missing, unknown or wrongly typed one."""
        unknown = [key for key in arguments if key not in self.parameters]
        if unknown:
            known = ", ".join(self.parameters) or "none"
            raise InvalidAction(f"{self.name} has no argument {str(unknown[0])[:40]}; expected {known}")
        missing = [key for key, parameter in self.parameters.items() if parameter.is_required and key not in arguments]
        if missing:
            raise InvalidAction(f"{self.name} needs {', '.join(missing)}")
        return {key: self._checked(key, value) for key, value in arguments.items()}

    def _checked(self, key: str, value: Any) -> Any:
        annotation = self.parameters[key].annotation
        if not _fits(value, annotation):
            raise InvalidAction(f"{self.name} needs {key} to be {_describe(annotation)}")
        return float(value) if isinstance(value, int) and _without_none(annotation)[0] is float else value


class ToolEnv(TurnEnv):
    """Base of environments with tools: write `begin`, and methods marked `@tool` that return what the policy reads."""

    _tools: Mapping[str, Tool]  # of the class, unless `_offer` gave the instance its own
    _schemas: list[dict[str, Any]]
    _answer_role: ClassVar[str] = "tool"
    _call: ToolCall | None = None  # of the current turn

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read the tools of a subclass; TypeError for one that cannot have a schema."""
        super().__init_subclass__(**kwargs)
        taken = [name for name in _tool_names(cls) if hasattr(ToolEnv, name)]
        if taken:
            raise TypeError(f"{cls.__name__}: a tool cannot be named {taken[0]!r}, which every environment has")
        cls._tools = read_tools(cls)
        cls._schemas = _schemas_of(cls._tools)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """JSON schemas of the tools, in the order of their definition; shared by instances, not to be changed."""
        return self._schemas

    def act(self, action: Message) -> Observation:
        """Call the tool that the message names; InvalidAction if it names none or its arguments do not fit."""
        self._call = None
        call = self._call = self.read_call(action)
        return self._perform(call)

    def _offer(self, tools: Mapping[str, Tool]) -> None:
        """Offer these tools, by name, in place of the class's, in this instance and from now on."""
        self._tools, self._schemas = tools, _schemas_of(tools)

    def _perform(self, call: ToolCall) -> Observation:
        """Carry out a call whose arguments fit; for an environment whose tools are no methods of its own to change."""
        answer: Observation = getattr(self, call.name)(**call.arguments)
        return answer

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        """Add `call`, what was carried out; nothing after `reset` and for a malformed action."""
        info = super()._info(is_valid=is_valid)
        if is_valid and self._call is not None and self.num_turns:
            info["call"] = {"name": self._call.name, "arguments": dict(self._call.arguments)}
        return info

    def read_call(self, action: Message) -> ToolCall:
        """Return the call that an assistant message makes, with its arguments checked; InvalidAction otherwise."""
        call = call_of(action, self._schemas)
        declared = self._tools.get(call.name)
        if declared is None:
            raise unknown_tool(call.name, self._schemas)
        return ToolCall(name=call.name, arguments=declared.check(call.arguments))


def read_tools(cls: type) -> dict[str, Tool]:
    """Return the tools that a class of any kind declares, by name; TypeError for one that cannot have a schema."""
    return {name: _read_tool(cls, name) for name in _tool_names(cls)}


def _tool_names(cls: type) -> list[str]:
    """Names of all tools, a base's first; a method that overrides a tool is one too."""
    marked = [name for base in reversed(cls.__mro__) for name, item in vars(base).items() if hasattr(item, _MARK)]
    return list(dict.fromkeys(marked))


def _schemas_of(tools: Mapping[str, Tool]) -> list[dict[str, Any]]:
    return [dict(declared.schema) for declared in tools.values()]


def _read_tool(cls: type, name: str) -> Tool:
    where = f"{cls.__name__}.{name}"
    method = inspect.unwrap(getattr(cls, name))
    parameters = _read_parameters(method, where)
    described = _described(inspect.getdoc(method) or "")
    properties = {
        key: _property(parameter, described.get(key, ""), f"{where}: parameter {key!r}")
        for key, parameter in parameters.items()
    }
    required = [key for key, parameter in parameters.items() if parameter.is_required]
    first_line = (inspect.getdoc(method) or "").strip().split("\n")[0]
    shape = {"type": "object", "properties": properties, "required": required}
    schema = {"type": "function", "function": {"name": name, "description": first_line, "parameters": shape}}
    return Tool(name=name, schema=schema, parameters=parameters)


def _read_parameters(method: Callable[..., Any], where: str) -> dict[str, Parameter]:
    hints = _hints(method, where)
    found = {}
    for key, parameter in list(inspect.signature(method).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"{where}: parameter {key!r} must be an ordinary one (no *, ** or /)")
        if key not in hints:
            raise TypeError(f"{where}: parameter {key!r} needs a type hint")
        found[key] = Parameter(annotation=hints[key], default=parameter.default)
    return found


def _hints(method: Callable[..., Any], where: str) -> dict[str, Any]:
    """Return the parameters' types; the return type is not looked at, since it may exist for type checkers only."""
    written = {key: value for key, value in getattr(method, "__annotations__", {}).items() if key != "return"}
    holder = types.SimpleNamespace(__annotations__=written)
    try:
        return typing.get_type_hints(holder, globalns=getattr(method, "__globals__", {}))
    except NameError as error:
        raise TypeError(f"{where}: a type hint is unknown at the module's top level ({error})") from None


def _described(doc: str) -> dict[str, str]:
    """Return the text of lines `name: text` (also `name (type): text`) below a docstring's first line, by name."""
    found = (_DOC_LINE.fullmatch(line) for line in doc.split("\n")[1:])
    return {match[1]: match[2].strip() for match in found if match}


def _property(parameter: Parameter, description: str, where: str) -> dict[str, Any]:
    schema = _type_schema(parameter.annotation, where)
    if description:
        schema["description"] = description
    if not parameter.is_required and parameter.default is not None:
        schema["default"] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return schema


def _type_schema(annotation: Any, where: str) -> dict[str, Any]:
    inner, _ = _without_none(annotation)
    if inner in _SCALARS:
        return {"type": _SCALARS[inner]}
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is Literal and len({type(choice) for choice in arguments}) == 1 and type(arguments[0]) in _SCALARS:
        return {"type": _SCALARS[type(arguments[0])], "enum": list(arguments)}
    if origin is list and arguments[0] in _SCALARS:
        return {"type": "array", "items": {"type": _SCALARS[arguments[0]]}}
    known = "str, int, float, bool, a list of one of these, Literal, or `X | None`"
    raise TypeError(f"{where} has type {annotation}; use {known}")


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Return the type without `None`, and whether it had it."""
    if typing.get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    rest = [item for item in typing.get_args(annotation) if item is not type(None)]
    return (rest[0], True) if len(rest) == 1 else (annotation, False)


def _fits(value: Any, annotation: Any) -> bool:
    inner, is_optional = _without_none(annotation)
    if value is None:
        return is_optional
    if inner in _SCALARS:
        return _fits_scalar(value, inner)
    if typing.get_origin(inner) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(inner))
    item = typing.get_args(inner)[0]
    return isinstance(value, list) and all(_fits_scalar(entry, item) for entry in value)


def _fits_scalar(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= 1e308 and not math.isnan(value)
    return isinstance(value, kind)


def _describe(annotation: Any) -> str:
    """Return a type in words, for an error message."""
    inner, _ = _without_none(annotation)
    if typing.get_origin(inner) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(inner)))}"
    if typing.get_origin(inner) is list:
        return f"a list of {_NAMES[typing.get_args(inner)[0]].removeprefix('a ')}"
    return _NAMES[inner]
