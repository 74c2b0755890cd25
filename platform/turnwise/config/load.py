"""Defaults <- YAML file <- `key=value` words, checked, as one typed `RunConfig`.

The command line and Python callers use `load_config`. Every mistake that can be seen without looking at the world is a
`UserError` here; `turnwise.preflight` looks at the world. Plug-ins are imported only once the plain keys are right.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from turnwise.config.checks import check_bounds, check_together
from turnwise.config.decided import decided
from turnwise.config.effects import check_effects
from turnwise.config.keys import KeySpec, default_of, schema, select
from turnwise.config.merge import check_keys, checked
from turnwise.config.plugins import build_plugin, check_name, complete_section, options_of, plugin_sections
from turnwise.config.schema import RunConfig
from turnwise.config.source import Tree, read_tree
from turnwise.learner.build import build_objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A configuration, and what is known of its making."""

    config: RunConfig  # typed, interpolations resolved, plug-in sections with all options
    node: DictConfig  # the same with `${oc.env:NAME}` as written
    explicit: frozenset[str]  # dotted keys that the user gave, plug-in options included
    values: dict[str, Any]  # every dotted key's resolved value
    known: dict[str, KeySpec]  # every dotted key, plug-in options included
    path: Path | None  # the file


def load_config(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """Return the checked configuration; `overrides` are `key=value` (YAML values) and `~key` words.

    A mapping or list that the schema leaves free (`env.kwargs`, plug-in sections) replaces its default as a whole; a
    dotted override within one changes that entry only. Raises UserError.
    """
    tree = read_tree(path, overrides)
    known = dict(schema())
    check_keys(RunConfig, tree, "", list(known))
    node = checked(RunConfig, tree, "")
    check_bounds(_values(node, known), known)
    level = schema()
    while level:  # the second time: plug-ins that are options of plug-ins
        sections = _named_sections(node, level)
        level = {}
        for key, (kind, section) in sections.items():
            level |= options_of(kind, section, key)
        known |= level
        for key, (kind, section) in sections.items():
            OmegaConf.update(node, key, complete_section(kind, section, key, list(known)), merge=False)
    return _finish(node, known, _explicit(tree, known), Path(path) if path is not None else None)


def _finish(node: DictConfig, known: dict[str, KeySpec], explicit: frozenset[str], path: Path | None) -> Loaded:
    values = _values(node, known)
    check_bounds(values, known)
    config = OmegaConf.to_object(node)
    assert isinstance(config, RunConfig)
    for key, value in decided(config).items():
        OmegaConf.update(node, key, value, merge=False)
        values[key] = value
    check_effects(values, known, explicit)
    config = OmegaConf.to_object(node)
    assert isinstance(config, RunConfig)
    estimator, options = build_plugin("estimator", config.credit.estimator, "credit.estimator")
    check_together(config, estimator)
    build_objective(config.learner)
    estimator(options)  # it may refuse options that make no sense together
    return Loaded(config=config, node=node, explicit=explicit, values=values, known=known, path=path)


def _named_sections(node: DictConfig, keys: Mapping[str, KeySpec]) -> dict[str, tuple[str, Tree]]:
    """Return (kind, section with a name) of the plug-in sections among some keys, by dotted key."""
    tree: Any = OmegaConf.to_container(node, resolve=False)
    found = {}
    for key, spec in plugin_sections(tree, keys):
        assert spec.plugin is not None
        section = select(tree, key)
        name = check_name(spec.plugin, section, key, _default_name(key))
        found[key] = (spec.plugin, {**copy.deepcopy(section), "name": name})
    return found


def _default_name(key: str) -> str | None:
    default = default_of(key) if key in schema() else None
    return default.get("name") if isinstance(default, dict) else None


def _values(node: DictConfig, known: dict[str, KeySpec]) -> dict[str, Any]:
    tree = OmegaConf.to_container(node, resolve=True)
    return {key: select(tree, key) for key in known}


def _explicit(tree: Tree, known: dict[str, KeySpec]) -> frozenset[str]:
    return frozenset(key for key in known if known[key].section is None and _is_given(tree, key))


def _is_given(tree: Any, key: str) -> bool:
    *path, last = key.split(".")
    parent = select(tree, ".".join(path)) if path else tree
    return isinstance(parent, dict) and last in parent
