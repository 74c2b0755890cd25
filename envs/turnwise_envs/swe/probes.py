"""Calls whose values are compared outside: the third form of a check, which code under test cannot forge.

The agent's code alone in a process gets the arguments and returns values; what they must be never enters the sandbox.
Values are JSON. What JSON lacks is marked by an object with one key: `{"$tuple": [...]}`, `$set`, `$frozenset`, `$dict`
(pairs, for keys that are no texts), `$bytes` (hexadecimal), `$float` ("nan", "inf"), `$iterator`, and for what comes
out `{"$raises": "ValueError"}` and `{"$type": "Name"}`. Types must be equal: 1 is neither True nor 1.0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from turnwise.sandbox import Ran, Sandbox
from turnwise_envs.swe.runner import PYTHON
from turnwise_envs.swe.task import Probe
from turnwise_envs.swe.testkit import PROGRAMS

MAX_DEPTH = 60
ISOLATED = (*PYTHON, "-S")


async def failed_probes(
    box: Sandbox,
    probes: Sequence[Probe],
    *,
    kit: str,
    root: str,
    imports: Sequence[str],
    deadline_s: float,
    own_python: str = "",
) -> list[int]:
    """Return the numbers of those whose value is not the expected one, or that gave none. `SandboxLost`."""
    python = [own_python] if own_python else ISOLATED
    values = await ask(box, probes, kit=kit, root=root, imports=imports, deadline_s=deadline_s, python=python)
    return [i for i, probe in enumerate(probes) if i >= len(values) or not agree(values[i], probe.expected)]


async def ask(
    box: Sandbox,
    calls: Sequence[Probe],
    *,
    kit: str,
    root: str,
    imports: Sequence[str],
    deadline_s: float,
    python: Sequence[str] = ISOLATED,
    seed: int = 0,
) -> list[Any]:
    """Return what calls give, as far as they were reached; `seed` is that of Python's hashes. `SandboxLost`."""
    asked = [{"call": call.call, "args": list(call.args), "kwargs": dict(call.kwargs)} for call in calls]
    told = json.dumps({"calls": asked, "imports": list(imports)}).encode()
    argv = [*python, "-s", "-B", f"{kit}/{PROGRAMS}/calls.py"]
    ran = await box.exec(argv, cwd=root, stdin=told, env={"PYTHONHASHSEED": str(seed)}, deadline_s=deadline_s)
    return _values(ran)[: len(calls)]


def agree(value: Any, expected: Any, depth: int = 0) -> bool:
    """Whether a value is the expected one, types included; sets in any order, dictionaries too."""
    if depth > MAX_DEPTH:
        return False
    value, expected = _plain(value), _plain(expected)
    if type(value) is not type(expected):
        return False
    if isinstance(value, list):
        return len(value) == len(expected) and all(
            agree(one, other, depth + 1) for one, other in zip(value, expected, strict=True)
        )
    if isinstance(value, dict):
        return value.keys() == expected.keys() and all(agree(value[key], expected[key], depth + 1) for key in value)
    return bool(value == expected)


def _plain(value: Any) -> Any:
    """Return objects and marks in one form: a dictionary as `$dict` with pairs in order, a set in order."""
    if not isinstance(value, dict):
        return value
    mark = next(iter(value)) if len(value) == 1 else ""
    if mark in ("$set", "$frozenset", "$dict") and isinstance(value[mark], list):
        return {mark: sorted(value[mark], key=_order)}
    if mark.startswith("$"):
        return value
    return {"$dict": sorted(([key, item] for key, item in value.items()), key=_order)}


def _order(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _values(ran: Ran) -> list[Any]:
    """Return the values that came out, up to the first line that is none."""
    values: list[Any] = []
    for line in ran.stdout.split(b"\n")[:-1]:
        try:
            values.append(json.loads(line)["value"])
        except (ValueError, KeyError, TypeError, RecursionError):
            break
    return values
