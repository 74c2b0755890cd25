"""Names to classes: the one place where agents, scorers, engines, estimators and so on are found.

A plug-in package names a module or function under the entry-point group `turnwise.plugins`; it is imported once, on the
first look-up, and calls `register` (and `gymnasium.register` for environments). Our own packages use the same door.
Nothing is imported before the first look-up; `register_path` puts an import off until the item itself is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from turnwise.errors import UserError

GROUP = "turnwise.plugins"

KINDS = (
    "agent",
    "attack",
    "command",
    "correction",
    "engine",
    "estimator",
    "fuse",
    "judge",
    "model",
    "objective",
    "scorer",
    "select",
)
"""What can be registered. Environments are registered with Gymnasium itself."""

Item = TypeVar("Item")
_loading = threading.RLock()
_items: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}


def register(kind: str, name: str) -> Callable[[Item], Item]:
    """Return a decorator that registers a class, function or value under `name`; ValueError if the name is taken."""
    if kind not in _items:
        raise ValueError(f"unknown kind {kind!r}; one of {', '.join(KINDS)}")

    def add(item: Item) -> Item:
        if _items[kind].setdefault(name, item) is not item:
            raise ValueError(f"{kind} {name!r} is registered twice")
        return item

    return add


def register_path(kind: str, name: str, path: str) -> None:
    """Register what stands at `module:attribute`, imported at its first look-up; ValueError if the name is taken.

    Registering the same once more is harmless: environments' packages are registered by whoever needs them.
    """
    item = LazyItem(path)
    if kind not in _items or _items[kind].get(name) != item:
        register(kind, name)(item)


@dataclass(frozen=True, slots=True)
class LazyItem:
    """A registered item that is not imported yet."""

    path: str  # module:attribute

    def load(self) -> Any:
        """Import and return it."""
        module, _, attribute = self.path.partition(":")
        return getattr(importlib.import_module(module), attribute)


def lookup(kind: str, name: str, *, field: str | None = None) -> Any:
    """Return what is registered under `name`; UserError with a suggestion (naming `field`) if there is none."""
    load_plugins()
    found = _items[kind]
    if name not in found:
        raise UserError(field or kind, name, f"no such {kind}", suggestion(name, sorted(found)))
    item = found[name]
    return item.load() if isinstance(item, LazyItem) else item


def names(kind: str) -> list[str]:
    """Return all names of a kind, sorted."""
    load_plugins()
    return sorted(_items[kind])


def suggestion(name: str, known: list[str]) -> str:
    """Return a remedy: the nearest known name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}"


def load_plugins() -> tuple[str, ...]:
    """Import every plug-in once and return their names; UserError names the one that cannot be imported.

    Any thread may call it: environments are made in threads of their own.
    """
    with _loading:
        return _load_once()


@lru_cache(maxsize=1)
def _load_once() -> tuple[str, ...]:
    loaded = []
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            plugin = entry.load()
        except Exception as error:
            remedy = f"mend or uninstall {entry.value}"
            raise UserError("plugin", entry.name, f"cannot be imported ({error})", remedy) from error
        if callable(plugin):
            plugin()
        loaded.append(entry.name)
    return tuple(loaded)
