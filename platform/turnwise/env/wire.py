"""How an environment's answers and failures travel as JSON, between `turnwise.serve` and `turnwise/Remote-v0`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from turnwise.errors import (
    BoundaryError,
    EngineError,
    EnvError,
    InfraError,
    JudgeError,
    PolicyError,
    TurnwiseError,
    UserError,
    failure_of,
)
from turnwise.records import Event, FailureKind

USER, SESSION = "user", "session"
"""Kinds of errors that are no failures: what the user gave is wrong; there is no such session, or no longer."""

_FAILURES: dict[str, type[BoundaryError]] = {
    each.kind.value: each for each in (PolicyError, EnvError, InfraError, EngineError, JudgeError)
}


def dump(answer: Mapping[str, Any]) -> bytes:
    """Return JSON; TypeError or ValueError for what has no such form. Events of an `info` keep their fields."""
    return json.dumps(answer, default=_plain).encode()


def read_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an environment said of a turn, as it said it."""
    events = tuple(Event(channel=event["channel"], value=event["value"]) for event in info.get("events", ()))
    return {**info, "events": events} if "events" in info else dict(info)


def write_error(error: Exception, stage: str) -> dict[str, Any]:
    """Return an error for `read_error`; what is not ours is the environment's failure."""
    if isinstance(error, UserError):
        value = " ".join(str(error.value).split())[:500]
        return {"kind": USER, "field": error.field, "value": value, "problem": error.problem, "remedy": error.remedy}
    failure = failure_of(error, stage, FailureKind.ENV)
    return {"kind": failure.kind.value, "cause": failure.cause}


def read_error(error: Any) -> TurnwiseError:
    """Return the error to raise; EnvError for one that makes no sense."""
    if isinstance(error, dict) and error.get("kind") == USER:
        return UserError(*(str(error.get(name, "")) for name in ("field", "value", "problem", "remedy")))
    kind, cause = (error.get("kind"), error.get("cause")) if isinstance(error, dict) else (None, error)
    return _FAILURES.get(str(kind), EnvError)(f"served elsewhere: {str(cause)[:500]}")


def _plain(value: Any) -> Any:
    if isinstance(value, Event):
        return {"channel": value.channel, "value": value.value}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no plain JSON")
