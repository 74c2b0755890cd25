"""Tasks for tools: a prompt, how its outcome is decided, and what an agent is not told; from a JSONL file.

A line is {"prompt"} with "answer" (a text, or several that are right), or "check" (a tool that is called at the end,
with what it must return), or both; and, where wanted, "setup" (a tool that is called first), "calls" (what solves it),
"id" and "split" ("train" without one). A bad line is a `UserError` that names file and line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnwise.env.attempts import normalise
from turnwise.env.calls import ToolCall
from turnwise.errors import EnvError, UserError
from turnwise_envs.mcp.tools import Result

FIELD = "env.kwargs.tasks"
SPLITS = ("train", "eval")
KEYS = ("id", "prompt", "answer", "check", "setup", "calls", "split")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What decides at the end."""

    call: ToolCall
    has_expected: bool
    expected: Any  # what the tool must return, as JSON

    def verdict(self, result: Result) -> float:
        """Return the outcome, from 0 to 1; EnvError for a result that decides nothing."""
        if result.is_error:
            raise EnvError(f"the check {self.call.name} failed: {result.text[:200]}")
        value = result.value
        if self.has_expected:
            return float(_same(value, self.expected))
        if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
            raise EnvError(f"the check {self.call.name} returned {str(value)[:80]!r}, no number from 0 to 1")
        return float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class McpTask:
    """One task."""

    name: str
    split: str
    prompt: str
    answers: tuple[str, ...]  # final answers that are right; none: any
    check: Check | None
    setup: ToolCall | None
    calls: tuple[ToolCall, ...]  # what solves it

    @property
    def hidden(self) -> set[str]:
        """The tools that decide it, which no agent sees."""
        return {call.name for call in (self.setup, self.check.call if self.check else None) if call is not None}

    def is_right(self, answer: str) -> bool:
        """Whether a final answer is right, but for case and white space."""
        return not self.answers or normalise(answer) in map(normalise, self.answers)


def load_tasks(path: Any) -> dict[str, tuple[McpTask, ...]]:
    """Return the tasks by split; UserError for a bad line, a name twice, or a prompt in both splits."""
    if not isinstance(path, str | Path):
        raise UserError(FIELD, path, "no task file", 'give a JSONL file of {"prompt": ..., "answer": ...}')
    tasks = [_read(where, data) for where, data in lines(path)]
    if not tasks:
        raise UserError(FIELD, path, "empty task set", 'write a line {"prompt": ..., "answer": ...} a task')
    for key in ("name", "prompt"):
        seen: dict[str, McpTask] = {}
        for task in tasks:
            first = seen.setdefault(getattr(task, key), task)
            if first is not task and (key == "name" or first.split != task.split):
                problem = "is there twice" if key == "name" else "stands in both splits"
                raise UserError(FIELD, path, f"{key} {getattr(task, key)[:80]!r} {problem}", "leave one of them out")
    return {split: tuple(task for task in tasks if task.split == split) for split in SPLITS}


def lines(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSONL file, each with the place where it stands; UserError for a bad line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(FIELD, path, f"cannot be read ({error})", "give the path of a JSONL file in UTF-8") from error
    for number, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        where = f"{path}:{number}"
        try:
            data = json.loads(written)
            json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise UserError(FIELD, where, f"not JSON ({error})", "correct the line") from error
        if not isinstance(data, dict):
            raise _bad(where, "not a JSON object")
        yield where, data


def _read(where: str, data: Mapping[str, Any]) -> McpTask:
    unknown = [key for key in data if key not in KEYS]
    if unknown:
        raise _bad(where, f'unknown key "{unknown[0]}" (known: {", ".join(KEYS)})')
    given = data.get("answer", [])
    answers = [given] if isinstance(given, str) else given
    texts = [data.get("prompt"), *answers] if isinstance(answers, list) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise _bad(where, '"prompt" must be a text, and "answer" a text or a list of texts, that are not empty')
    if not answers and "check" not in data:
        raise _bad(where, 'neither "answer" nor "check": nothing decides the outcome')
    if data.get("split", "train") not in SPLITS:
        raise _bad(where, f'"split" must be one of {", ".join(SPLITS)}')
    check, calls = data.get("check"), data.get("calls", [])
    if not isinstance(calls, list):
        raise _bad(where, '"calls" must be a list')
    return McpTask(
        name=str(data.get("id", where)),
        split=data.get("split", "train"),
        prompt=data["prompt"],
        answers=tuple(answers),
        check=None if check is None else _check(where, check),
        setup=None if data.get("setup") is None else _call(where, "setup", data["setup"]),
        calls=tuple(_call(where, "calls", call) for call in calls),
    )


def _check(where: str, data: Any) -> Check:
    has_expected = isinstance(data, dict) and "expect" in data
    call = _call(where, "check", {key: data[key] for key in data if key != "expect"} if has_expected else data)
    return Check(call=call, has_expected=has_expected, expected=data["expect"] if has_expected else None)


def _call(where: str, key: str, data: Any) -> ToolCall:
    is_call = isinstance(data, dict) and isinstance(data.get("name"), str) and set(data) <= {"name", "arguments"}
    if not is_call or not isinstance(data.get("arguments", {}), dict):
        raise _bad(where, f'"{key}" must be a call {{"name": ..., "arguments": {{...}}}}')
    return ToolCall(name=data["name"], arguments=data.get("arguments", {}))


def _same(value: Any, expected: Any) -> bool:
    """Whether two values are equal as JSON: truth is no number; texts may differ in case and white space."""
    if isinstance(value, str) and isinstance(expected, str):
        return normalise(value) == normalise(expected)
    return json.dumps(value, sort_keys=True) == json.dumps(expected, sort_keys=True)


def _bad(where: str, problem: str) -> UserError:
    return UserError(FIELD, where, problem, "correct the line")
