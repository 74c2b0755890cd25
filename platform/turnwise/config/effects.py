"""Keys without effect: a key that the user gave although its condition (`only_if`) does not hold is an error.

Called by `load` once all defaults are known; `masking` uses `is_in_effect` to leave such keys out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnwise.config.keys import KeySpec, literal, shown
from turnwise.config.schema import Condition
from turnwise.errors import UserError

Specs = Mapping[str, KeySpec]


def check_effects(values: Mapping[str, Any], known: Specs, explicit: frozenset[str]) -> None:
    """Refuse the first explicitly given key that has no effect; `values` maps dotted keys to resolved values."""
    for key in sorted(explicit & known.keys()):
        failing = failing_condition(key, values, known)
        if failing is not None:
            raise _no_effect(key, values, failing)


def is_in_effect(key: str, values: Mapping[str, Any], known: Specs) -> bool:
    """Whether the conditions of a key hold, those of the keys it depends on included."""
    return failing_condition(key, values, known) is None


def failing_condition(key: str, values: Mapping[str, Any], known: Specs) -> Condition | None:
    """Return the first (dotted key, wanted value) that does not hold for `key`, or None."""
    for name, wanted in known[key].only_if:
        condition = name if "." in name else f"{key.rpartition('.')[0]}.{name}"
        if not _holds(values.get(condition), wanted):
            return condition, wanted
        if condition in known and (deeper := failing_condition(condition, values, known)) is not None:
            return deeper
    return None


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        return value in wanted
    return bool(value) if wanted is True else bool(value == wanted)


def _no_effect(key: str, values: Mapping[str, Any], failing: Condition) -> UserError:
    name, wanted = failing
    is_now = f"{name}={literal(shown(name, values.get(name)))}"
    if wanted is True and not isinstance(values.get(name), bool):
        change = f"set {name}"
    else:
        change = f"set {name}={literal(wanted[0] if isinstance(wanted, tuple) else wanted)}"
    return UserError(key, shown(key, values.get(key)), f"has no effect because {is_now}", f"remove it or {change}")
