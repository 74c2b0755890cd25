"""Demonstrations: episodes that an environment plays by itself, as chat messages; recorded, written and read.

The warm start calls `record` (or `read` for a file of the user's). A line of the JSONL form is

    {"task": {...}, "tools": [...], "messages": [{"role": ..., "content": ...}, ...], "outcome": 1.0}

with the environment's instructions as a leading system message where it has any. Recording runs the environment in the
caller's thread; who needs an end to its patience draws from `record` through `turnwise.deadline`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from turnwise.env.base import TurnEnv
from turnwise.errors import BoundaryError, UserError
from turnwise.records import Message, Task, task_from_json, to_json

MAX_TURNS = 1000
"""An episode that its environment does not end is cut off here."""

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """One recorded episode; not always a good one."""

    task: Task
    tools: Sequence[dict[str, Any]]  # JSON schemas that the actions may call
    messages: Sequence[Message]  # [system,] observations and assistant messages in order
    outcome: float  # sum of the episode's rewards on channel "outcome"


def record(
    env: gymnasium.Env[Any, Any],
    tasks: Iterable[Task],
    seed: int,
    on_failure: Callable[[BoundaryError], Any] | None = None,
) -> Iterator[Demonstration]:
    """Play each task with the environment's own `demonstrate`; equal seeds give equal demonstrations.

    An episode that fails is left out and told to `on_failure`; without it, the failure is raised. UserError for an
    environment that has no demonstrations.
    """
    for number, task in enumerate(tasks):
        try:
            yield record_one(env, task, np.random.default_rng([seed, number]))
        except BoundaryError as error:
            if on_failure is None:
                raise
            on_failure(error)


def record_one(env: gymnasium.Env[Any, Any], task: Task, rng: np.random.Generator) -> Demonstration:
    """Play one task until it is over or the demonstrator gives up."""
    world: TurnEnv = env.unwrapped  # type: ignore[assignment]
    options = {"task_id": task.task_id, "split": task.split, "episode_seed": int(rng.integers(2**31)), **task.data}
    shown, _ = env.reset(seed=task.seed, options=options)
    tools = list(world.tools)  # those that the policy is shown, whatever comes later
    messages = [*_system(world), *shown]
    outcome = 0.0
    for turn in range(MAX_TURNS):
        action = world.demonstrate(rng)
        if action is None and turn == 0:
            remedy = "give recorded ones with sft.path, or set sft.steps=0"
            raise UserError("env.id", task.env_id, "the environment has no demonstrations", remedy)
        if action is None:
            break
        shown, _, terminated, truncated, info = env.step(action)
        messages += [{"role": "assistant", "content": action}, *shown]
        outcome += sum(event.value for event in info["events"] if event.channel == "outcome")
        if terminated or truncated:
            break
    return Demonstration(task=task, tools=tools, messages=messages, outcome=outcome)


def write(demonstrations: Iterable[Demonstration], path: Path) -> int:
    """Write one line each and return how many; FileExistsError rather than overwrite."""
    num_lines = 0
    with path.open("x", encoding="utf-8") as file:
        for demonstration in demonstrations:
            file.write(json.dumps(_to_json(demonstration), ensure_ascii=False) + "\n")
            num_lines += 1
    return num_lines


def read(path: Path) -> list[Demonstration]:
    """Return all demonstrations of a file; UserError naming file and line for what is not one."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("sft.path", path, f"cannot be read ({error})", "give a JSONL file of demonstrations") from error
    if not lines:
        raise UserError("sft.path", path, "holds no demonstrations", "record some, or set sft.steps=0")
    return [_from_line(path, number, line) for number, line in lines]


def _system(world: TurnEnv) -> list[Message]:
    return [{"role": "system", "content": world.instructions}] if world.instructions else []


def _to_json(demonstration: Demonstration) -> dict[str, Any]:
    return {
        "task": to_json(demonstration.task),
        "tools": list(demonstration.tools),
        "messages": list(demonstration.messages),
        "outcome": demonstration.outcome,
    }


def _from_line(path: Path, number: int, line: str) -> Demonstration:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        messages = _messages(data["messages"])
        outcome = float(data.get("outcome", 0.0))
        if not math.isfinite(outcome):
            raise ValueError(f"outcome is {outcome}")
        return Demonstration(task=_task(data), tools=_tools(data), messages=messages, outcome=outcome)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise UserError("sft.path", f"{path}:{number}", problem, "correct or remove the line") from error


def _task(data: dict[str, Any]) -> Task:
    if "task" not in data:
        return Task(env_id="", task_id="", seed=0)
    if not isinstance(data["task"], dict):
        raise ValueError("task is not an object")
    return task_from_json(data["task"])


def _tools(data: dict[str, Any]) -> list[dict[str, Any]]:
    tools = data.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("tools is not a list of JSON schemas")
    return tools


def _messages(messages: Any) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages is not a list of messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"a message has no role among {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise ValueError("a message's content is not a text")
    roles = [message["role"] for message in messages]
    first = 1 if roles[0] == "system" else 0
    if "assistant" not in roles:
        raise ValueError("no assistant message: nothing to learn")
    if roles[first] == "assistant":
        raise ValueError("an assistant message precedes every observation")
    if any(pair == ("assistant", "assistant") for pair in itertools.pairwise(roles)):
        raise ValueError("two assistant messages in a row")
    if any(m["role"] == "assistant" and not m["content"].strip() for m in messages):
        raise ValueError("an assistant message is empty: its content must spell the action")
    return messages
