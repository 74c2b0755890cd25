"""Checks of the arguments of environments, as `env.kwargs` gives them; each UserError names argument, value, remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from turnwise.errors import UserError
from turnwise.registry import suggestion
from turnwise.sandbox.policy import SandboxPolicy

Odds = TypeVar("Odds")

SANDBOX = "env.kwargs.sandbox"
"""Where the policy of an environment's sandboxes stands."""

MAX_LISTED = 12
"""Names that an error lists."""

_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


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


def number(name: str, value: Any, low: float, high: float) -> float:
    """Return a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"env.kwargs.{name}", value, "out of range", f"give a number from {low:g} to {high:g}")
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
        some = ", ".join([*known[:MAX_LISTED], *(["..."] if len(known) > MAX_LISTED else [])])
        raise UserError(f"env.kwargs.{name}", value, "empty", f"give some of {some}, or leave it out")
    return tuple(item for item in known if item in given)


def one_of(name: str, value: Any, known: Sequence[str]) -> str:
    """Return one of the known names."""
    if not isinstance(value, str) or value not in known:
        raise UserError(f"env.kwargs.{name}", value, "no such name", f"give one of {', '.join(known)}")
    return value


def numbers(name: str, value: Any, most: int, problem: str) -> tuple[int, ...]:
    """Return the whole numbers, from 1 to `most`, that one, a list, or a range "1-4" names."""
    if isinstance(value, str):
        match = _RANGE.fullmatch(value)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        found: Sequence[Any] = range(low, min(high, most + 1) + 1)
    else:
        found = list(value) if isinstance(value, Sequence) else [value]
    are_whole = all(isinstance(one, int) and not isinstance(one, bool) for one in found)
    if not found or not are_whole or not all(1 <= one <= most for one in found):
        remedy = f'give 1 to {most}, a list, or a range "1-{most}"'
        raise UserError(f"env.kwargs.{name}", value, problem, remedy)
    return tuple(found)


def read_mistakes(cls: type[Odds], given: Mapping[str, Any] | None) -> Odds:
    """Return a demonstrator's probabilities, a dataclass, with the given ones changed."""
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    for key, value in (given or {}).items():
        if key not in known:
            raise UserError(f"env.kwargs.mistakes.{key}", value, "no such mistake", suggestion(str(key), known))
    return cls(**{str(key): probability(f"mistakes.{key}", value) for key, value in (given or {}).items()})


def sandbox_policy(given: Mapping[str, Any] | None, limits: Mapping[str, Any]) -> SandboxPolicy:
    """Return a policy, `limits` where nothing is given."""
    plain = OmegaConf.structured(SandboxPolicy(**limits))
    try:
        policy: Any = OmegaConf.to_object(OmegaConf.merge(plain, dict(given or {})))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        problem = str(error).split("\n")[0]
        raise UserError(SANDBOX, given, problem, "see the policy's keys in docs/sandbox.md") from None
    policy.check(SANDBOX)
    return policy
