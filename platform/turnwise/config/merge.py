"""Checks a plain tree against a configuration dataclass: keys by name, values by type; lays it over the defaults."""

from __future__ import annotations

import typing
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from turnwise.config.keys import KeySpec, described, expected, nearest, shown, specs
from turnwise.config.source import Tree
from turnwise.errors import UserError


def check_keys(cls: type, tree: Tree, prefix: str, known: list[str]) -> None:
    """Refuse unknown keys (with the nearest of `known`) and sections that are no mappings."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        spec = specs(cls).get(str(name))
        if spec is None:
            raise UserError(key, shown(key, value), "no such key", nearest(key, known))
        if spec.plugin is not None and not isinstance(value, dict | list):
            raise UserError(key, shown(key, value), "a mapping {name: ..., options} is expected", f"set {key}.name")
        if spec.section is not None:
            if not isinstance(value, dict):
                raise _wrong_type(key, value, spec.section)
            check_keys(spec.section, value, f"{key}.", known)
        else:
            _check_strictly(spec, value, key)


def checked(cls: type, tree: Tree, prefix: str) -> DictConfig:
    """Return the defaults of a dataclass overlaid with the tree; UserError for a value of the wrong type."""
    base = OmegaConf.structured(cls)
    _empty_replaced(cls, base, tree)
    try:
        merged = OmegaConf.merge(base, OmegaConf.create(tree))
        OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise _translated(cls, tree, prefix, error) from None
    assert isinstance(merged, DictConfig)
    return merged


def hint_of(cls: type, steps: list[str]) -> Any:
    """Return the type that a dotted key (split) must have; `Any` where the schema does not say."""
    hint: Any = cls
    for step in steps:
        if isinstance(hint, type) and step in specs_or_none(hint):
            hint = specs(hint)[step].hint
        elif typing.get_origin(hint) in (dict, list, tuple):
            hint = typing.get_args(hint)[-1]
        else:
            return Any
    return hint


def specs_or_none(cls: type) -> dict[str, KeySpec]:
    """Return the keys of a dataclass, or none for another type."""
    return specs(cls) if hasattr(cls, "__dataclass_fields__") else {}


def _empty_replaced(cls: type, base: DictConfig, tree: Tree) -> None:
    """Clear the defaults of free mappings that the tree gives, since OmegaConf would mix them."""
    for name, value in tree.items():
        spec = specs(cls)[name]
        if spec.section is not None:
            _empty_replaced(spec.section, base[name], value)
        elif spec.is_free and isinstance(value, dict) and base[name] is not None:
            OmegaConf.update(base, name, {}, merge=False)


def _check_strictly(spec: KeySpec, value: Any, key: str) -> None:
    """Refuse what OmegaConf would bend into a text: `true` and `1e3`. Whole numbers are let through."""
    parts = typing.get_args(spec.hint) or (spec.hint,)
    if isinstance(value, bool | float) and str in parts and type(value) not in parts:
        raise _wrong_type(key, value, spec.hint)


def _translated(cls: type, tree: Tree, prefix: str, error: OmegaConfBaseException) -> UserError:
    steps = str(error.full_key or "").replace("[", ".").replace("]", "").split(".")
    value: Any = tree
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
    return _wrong_type(prefix + ".".join(steps), value, hint_of(cls, steps))


def _wrong_type(key: str, value: Any, hint: Any) -> UserError:
    quote = " (in quotes)" if hint is str else ""
    problem = f"{described(value)} where {expected(hint)} is expected"
    return UserError(key, shown(key, value), problem, f"write {expected(hint)}{quote}")
