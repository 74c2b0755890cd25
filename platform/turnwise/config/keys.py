"""Dotted keys: what the schema knows by which name, and what a value of it must look like.

The other modules of this package use it; nothing here reads files or imports plug-ins.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from turnwise.config.schema import Bounds, Condition, RunConfig

MASK = "***"

_SECRET = re.compile(
    r"(^|[_.\-])(tokens?_?(secret|key)|(auth|access|api|hf)?_?token|secrets?|pass(word|wd|phrase)s?|(api|private|access)_?keys?|credentials?)($|[_.\-])",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")

_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Any: "any value"}


@dataclass(frozen=True, kw_only=True, slots=True)
class KeySpec:
    """One key of a configuration dataclass."""

    name: str
    hint: Any  # its type
    section: type | None  # the dataclass, where the key is a section
    doc: str
    only_if: tuple[Condition, ...]
    plugin: str | None  # the kind of plug-in that the section configures
    bounds: Bounds

    @property
    def is_free(self) -> bool:
        """Whether the value is a mapping or a list, which a user replaces as a whole."""
        return typing.get_origin(self.hint) in (dict, list)


@lru_cache(maxsize=256)
def specs(cls: type) -> dict[str, KeySpec]:
    """Return the keys of a configuration dataclass by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: _spec(field, hints[field.name]) for field in dataclasses.fields(cls)}


def walk(cls: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, KeySpec]]:
    """Yield every (dotted key, spec) below a configuration dataclass, sections included."""
    for name, spec in specs(cls).items():
        yield prefix + name, spec
        if spec.section is not None:
            yield from walk(spec.section, f"{prefix}{name}.")


@lru_cache(maxsize=1)
def schema() -> dict[str, KeySpec]:
    """Return every key of `RunConfig` by its dotted name."""
    return dict(walk())


def default_of(key: str) -> Any:
    """Return the default of a dotted key of the schema, as plain data of its own."""
    value: Any = RunConfig()
    for step in key.split("."):
        value = getattr(value, step)
    return copy.deepcopy(value)


def select(tree: Any, key: str) -> Any:
    """Return what stands at a dotted key of plain data (indices count from 0); None if nothing does."""
    for step in key.split("."):
        if isinstance(tree, list):
            tree = tree[int(step)] if step.isdigit() and int(step) < len(tree) else None
        else:
            tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def nearest(wrong: str, known: list[str]) -> str:
    """Return a remedy for an unknown dotted key: the nearest known ones, or which keys there are."""
    parent, _, last = wrong.rpartition(".")
    known = [key for key in known if not wrong.startswith(f"{key}.")]
    siblings = [key for key in known if key.rpartition(".")[0] == parent]
    close = (
        [key for key in known if key.rpartition(".")[2] == last]
        or _with_similar_end(last, siblings)
        or ([] if siblings else difflib.get_close_matches(wrong, known, n=1, cutoff=0.75))
        or _with_similar_end(last, known)
    )
    if close:
        return f"did you mean {' or '.join(close[:3])}?"
    return f"one of: {', '.join(siblings or [key for key in known if '.' not in key])}"


def _with_similar_end(last: str, keys: list[str]) -> list[str]:
    similar = difflib.get_close_matches(last, {key.rpartition(".")[2] for key in keys}, n=1, cutoff=0.7)
    return [key for key in keys if key.rpartition(".")[2] in similar]


def expected(hint: Any) -> str:
    """Return in words what a value of a type looks like."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if part is type(None) else expected(part) for part in arguments)
    if origin in (list, tuple):
        return f"a list ({expected(arguments[0])} each)" if arguments else "a list"
    if origin is dict:
        return f"a mapping (of {expected(arguments[1])})"
    if dataclasses.is_dataclass(hint):
        return "a section with keys of its own"
    return _NAMES.get(hint, str(getattr(hint, "__name__", hint)))


def described(value: Any) -> str:
    """Return in words what kind of value was given."""
    kinds = {dict: "a mapping", list: "a list", type(None): "null"}
    return kinds.get(type(value)) or _NAMES.get(type(value), f"a {type(value).__name__}")


def is_secret(key: str) -> bool:
    """Whether a dotted key names something that is never shown."""
    return _SECRET.search(key) is not None


def shown(key: str, value: Any) -> Any:
    """Return the value as it may be printed: secrets and passwords in URLs masked."""
    if isinstance(value, dict):
        return {name: shown(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list):
        return [shown(key, item) for item in value]
    if not isinstance(value, str):
        return value
    return MASK if is_secret(key) and "${" not in value else _USERINFO.sub(MASK, value)


def literal(value: Any) -> str:
    """Return a value as it is written in YAML: `null`, `true`, numbers and texts."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _spec(field: dataclasses.Field[Any], hint: Any) -> KeySpec:
    metadata = field.metadata
    return KeySpec(
        name=field.name,
        hint=hint,
        section=hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None,
        doc=metadata.get("doc", ""),
        only_if=metadata.get("only_if", ()),
        plugin=metadata.get("plugin"),
        bounds=metadata.get("bounds", Bounds()),
    )
