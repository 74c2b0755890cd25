"""Calls functions of the agent's code with given values and writes down what they return; it judges nothing.

Alone in its process, as `python -s -S -B calls.py`: the calls come as JSON on standard input, values go out as JSON on
what standard output was when it began. What must come out is not known here. `probes.py` has the marks for what JSON
lacks, and compares.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

MAX_ITEMS = 10_000
MAX_DEPTH = 50


def main() -> None:
    """Answer the calls."""
    request = json.loads(sys.stdin.buffer.read())
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path and os.path.abspath(path) != here]
    sys.path.extend(os.path.join(os.getcwd(), folder) for folder in request["imports"])
    for call in request["calls"]:
        line = json.dumps(answer(call)).encode() + b"\n"
        while line:
            line = line[os.write(answers, line) :]
    os._exit(0)


def answer(call: dict[str, Any]) -> dict[str, Any]:
    """Return what a call gives: a value, or the name of what it raises."""
    try:
        module, _, names = call["call"].partition(":")
        function: Any = importlib.import_module(module)
        for name in names.split("."):
            function = getattr(function, name)
        args = [read(value) for value in call["args"]]
        kwargs = {name: read(value) for name, value in call["kwargs"].items()}
        return {"value": spell(function(*args, **kwargs), 0)}
    except Exception as error:  # noqa: BLE001 - whatever it is, its name is the answer
        return {"value": {"$raises": type(error).__name__}}


def read(value: Any) -> Any:
    """Return the value that JSON with marks spells."""
    if isinstance(value, list):
        return [read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (mark, inner), *_ = value.items()
        if mark in READERS:
            return READERS[mark](inner)
    return {name: read(item) for name, item in value.items()}


def pairs(items: list[Any]) -> dict[Any, Any]:
    """Return a dictionary of pairs."""
    return {read(name): read(item) for name, item in items}


READERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": lambda items: tuple(read(item) for item in items),
    "$set": lambda items: {read(item) for item in items},
    "$frozenset": lambda items: frozenset(read(item) for item in items),
    "$dict": pairs,
    "$bytes": bytes.fromhex,
    "$float": float,
    "$iterator": lambda items: iter([read(item) for item in items]),
}


def spell(value: Any, depth: int) -> Any:
    """Return a value as JSON with marks, by its exact type; another type is named and nothing else is told of it."""
    kind = type(value)
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if value - value == 0 else {"$float": repr(value)}
    if kind in (bytes, bytearray):
        return {"$bytes": bytes(value).hex()}
    if kind is dict:
        return {"$dict": [[spell(name, depth + 1), spell(item, depth + 1)] for name, item in bounded(value.items())]}
    if kind in (list, tuple, set, frozenset):
        items = [spell(item, depth + 1) for item in bounded(value)]
        if kind in (set, frozenset):
            items.sort(key=json.dumps)
        return items if kind is list else {f"${kind.__name__}": items}
    if hasattr(kind, "__next__"):
        return {"$iterator": [spell(item, depth + 1) for item in bounded(value)]}
    return {"$type": kind.__name__}


def bounded(items: Iterable[Any]) -> list[Any]:
    """Return items up to a number."""
    found: list[Any] = []
    for item in items:
        if len(found) >= MAX_ITEMS:
            raise ValueError("too many")
        found.append(item)
    return found


if __name__ == "__main__":
    main()
