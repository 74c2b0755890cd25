"""Files of demonstrations: JSON lines, written, read, and held against the run that is to imitate them.

A line is one demonstration:

    {"schema_version": 2, "task": {...}, "tools": [{...}, ...], "outcome": 1.0,
     "messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}, ...]}

with the environment's instructions as a leading system message where it has any. Only `messages` must be there; a line
without a task, written by hand perhaps, is of no environment and fits any. `turnwise env play` and `env demonstrate`
append lines, each whole or not at all; the preflight and the warm start call `read_for`. Whether what a file shows is
good nobody looks at here.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from turnwise.config.schema import RunConfig
from turnwise.deadline import each_within
from turnwise.demonstrations import Demonstration, reset_options
from turnwise.env.base import MAX_TEXT, MessageSpace
from turnwise.errors import UserError
from turnwise.records import SCHEMA_VERSION, Message, Task, task_from_json, to_json
from turnwise.tasks import SPLITS, make_env, world_of

FIELD = "sft.files"
ROLES = ("system", "user", "assistant", "tool")

Located = tuple[str, Demonstration]
"""A demonstration and where it stands: `file:line`."""


def append(path: Path, demonstration: Demonstration, field: str) -> None:
    """Add a line to a file, which is made if it is not there; UserError naming `field` leaves the file as it was."""
    line = json.dumps(_to_json(demonstration), ensure_ascii=False).encode(errors="replace") + b"\n"
    try:
        with path.open("ab+", buffering=0) as file:
            if size := file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else b"\n" + line
            if file.write(line) < len(line):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise UserError(field, path, problem, "make room, or name a file that can be written") from error


def read(path: Path, field: str = FIELD) -> list[Located]:
    """Return all demonstrations of a file; UserError naming `field`, file and line for what is not one."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # it may have no end, or be read but once
            raise OSError(errno.EINVAL, "no ordinary file")
        with path.open(encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise UserError(field, path, problem, "give a JSONL file of demonstrations") from error
    return [(f"{path}:{number}", _from_line(field, f"{path}:{number}", line)) for number, line in lines]


def read_for(config: RunConfig) -> tuple[list[Demonstration], list[str]]:
    """Return the demonstrations of all files of a run, and warnings; UserError for what is not for this run.

    A file is not if a line is of another environment, of a held-out task that the run measures on, or calls tools of
    other names. Tools of other schemas are a warning. The environment is reset for each set of tools that the files
    have, within `timeouts.reset_s`.
    """
    found: list[Located] = []
    for name in config.sft.files:
        lines = read(Path(name))
        if not lines:
            raise UserError(FIELD, name, "holds no demonstrations", "record some, or leave the file out")
        for where, demonstration in lines:
            _check_task(where, demonstration.task, config)
        found += lines
    limit_s = config.timeouts.reset_s
    late = UserError("timeouts.reset_s", f"{limit_s:g}", "the environment took longer to show its tools", "raise it")
    warnings = [warning for warning in each_within(limit_s, _check_tools(found, config), lambda: late) if warning]
    return [demonstration for _, demonstration in found], warnings


def is_of(task: Task, env_id: str) -> bool:
    """Whether a task is of an environment, or of none."""
    return task.env_id.rpartition(":")[2] in ("", env_id.rpartition(":")[2])


def _check_task(where: str, task: Task, config: RunConfig) -> None:
    if not is_of(task, config.env.id):
        problem = f"is of {task.env_id}, not of env.id={config.env.id}"
        raise UserError(FIELD, where, problem, f"record it in {config.env.id}, or leave the file out")
    if task.split == "eval" and config.eval.tasks:
        problem = "is of a held-out task, and the run measures on those"
        raise UserError(FIELD, where, problem, "record it with --split train, or set eval.tasks=0")


def _check_tools(found: Sequence[Located], config: RunConfig) -> Iterator[str]:
    """Hold each set of tools against the one with which the environment begins the same task; yield `_check_same`."""
    sets: dict[str, Located] = {}
    for where, demonstration in found:
        if demonstration.task.env_id:
            sets.setdefault(json.dumps(demonstration.tools), (where, demonstration))
    if not sets:
        return
    env = make_env(config.env.id, config.env.kwargs)
    try:
        for where, demonstration in sets.values():
            task = demonstration.task
            env.reset(seed=task.seed, options=reset_options(task, task.seed))
            yield _check_same(where, demonstration.tools, world_of(env).tools)
    finally:
        env.close()


def _check_same(where: str, tools: Sequence[dict[str, Any]], own: Sequence[dict[str, Any]]) -> str:
    """Return a warning if schemas differ; UserError if names do."""
    theirs, ours = ({tool["function"]["name"]: tool for tool in each} for each in (tools, own))
    remedy = "record it again with this run's env.kwargs"
    if odd := sorted(theirs.keys() ^ ours.keys()):
        whose = "the environment has no" if odd[0] in theirs else "it lacks the environment's"
        raise UserError(FIELD, where, f"{whose} tool {odd[0]}", f"{remedy}, or leave the file out")
    changed = [name for name in theirs if theirs[name] != ours[name]]
    return f"{where}: the schema of {', '.join(changed)} is another now; {remedy}" if changed else ""


def _to_json(demonstration: Demonstration) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "task": to_json(demonstration.task),
        "tools": list(demonstration.tools),
        "messages": list(demonstration.messages),
        "outcome": demonstration.outcome,
    }


def _from_line(field: str, where: str, line: str) -> Demonstration:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        if data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise ValueError(f"schema_version {data['schema_version']!r}, this Turnwise reads {SCHEMA_VERSION}")
        json.dumps(data, ensure_ascii=False).encode()  # what UTF-8 cannot hold no tokenizer takes
        messages = _messages(data["messages"])
        outcome = float(data.get("outcome", 0.0))
        if not math.isfinite(outcome):
            raise ValueError(f"outcome is {outcome}")
        return Demonstration(task=_task(data), tools=_tools(data), messages=messages, outcome=outcome)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        problem = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(field, where, problem, "correct or remove the line") from error


def _task(data: dict[str, Any]) -> Task:
    if "task" not in data:
        return Task(env_id="", task_id="", seed=0)
    if not isinstance(data["task"], dict):
        raise ValueError("task is not an object")
    task = task_from_json(data["task"])
    kinds = {"env_id": str, "task_id": str, "split": str, "seed": int, "data": dict}
    if odd := [name for name, kind in kinds.items() if type(getattr(task, name)) is not kind]:
        raise ValueError(f"task.{odd[0]} is not of type {kinds[odd[0]].__name__}")
    if task.seed < 0 or task.split not in SPLITS:
        raise ValueError(f"task.seed is below 0, or task.split none of {', '.join(SPLITS)}")
    return task


def _tools(data: dict[str, Any]) -> list[dict[str, Any]]:
    tools = data.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and _has_name(tool) for tool in tools):
        raise ValueError("tools is not a list of JSON schemas")
    return tools


def _has_name(tool: dict[str, Any]) -> bool:
    function = tool.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _messages(messages: Any) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages is not a list of messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"a message has no role among {', '.join(ROLES)}")
        if not MessageSpace(is_list=False).contains(message):
            raise ValueError(f"a message's content is not a text of at most {MAX_TEXT} characters")
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
