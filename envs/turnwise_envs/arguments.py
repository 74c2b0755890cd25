"""Checks of the arguments of environments, as `env.kwargs` gives them; each UserError names argument, value, remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnwise.errors import UserError
from turnwise.registry import suggestion


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"env.kwargs.{name}", value, "out of range", f"give a whole number from {low} to {high}")
    return value


def probability(name: str, value: Any, most: float = 1.0) -> float:
    """Return a number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise UserError(f"env.kwargs.{name}", value, "not a probability", f"give a number from 0 to {most:g}")
    return float(value)


def truth(name: str, value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise UserError(f"env.kwargs.{name}", value, "neither true nor false", "give one of them")
    return value


def some_of(name: str, value: Any, known: Sequence[str]) -> tuple[str, ...]:
    """Return one or several of the known names, in their order; all of them for None."""
    if value is None:
        return tuple(known)
    given = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    for item in given:
        if item not in known:
            raise UserError(f"env.kwargs.{name}", item, "no such name", suggestion(str(item), list(known)))
    if not given:
        raise UserError(f"env.kwargs.{name}", value, "empty", f"give some of {', '.join(known)}, or leave it out")
    return tuple(item for item in known if item in given)
