"""`turnwise/TRL-v0`: environment classes as TRL's `environment_factory` takes them, and the rows of their dataset.

Such a class is made without arguments; `reset(**row)` returns what is appended to the row's prompt; its other public
methods are tools, described by Google-style docstrings; `get_reward()` says what the episode is worth, or a reward
function does. A message without a call ends the episode. What a tool raises is told to the model, as TRL does. Rewards:
`outcome`, kept within -1 and 1, at the end; `format`, -1 for a malformed call. TRL itself is not needed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turnwise.env import ToolCall, TurnEnv, tool
from turnwise.env.tools import read_tools
from turnwise.errors import EnvError, InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.adapters.bounded import Bounded
from turnwise_envs.adapters.calling import Tools
from turnwise_envs.adapters.chance import Chance
from turnwise_envs.adapters.package import imported, known, made
from turnwise_envs.arguments import whole
from turnwise_envs.mcp.tasks import FIELD, SPLITS, lines
from turnwise_envs.mcp.tools import Offered, cut

OWN = ("reset", "get_reward")
MAX_SHOWN = 100_000


class TrlEnv(TurnEnv):
    """An object of such a class, and the row that it was reset with."""

    needs = "a class, rows"
    instructions = "Do the task with the tools. A message that calls none of them ends the episode."
    sample_actions = ("hello", "no_such_tool", '<tool_call>{"name": "x"}</tool_call>')

    def __init__(
        self,
        *,
        factory: str | None = None,
        tasks: str | None = None,
        reward: str | None = None,
        max_turns: int = 20,
        render_mode: str | None = None,
    ) -> None:
        """Make the object and read the rows; UserError for a class or a row that does not fit.

        `factory`: `module:Class`. `tasks`: JSONL of rows with `prompt`, the arguments of `reset`, and `split`.
        `reward`: `module:function` with TRL's signature, instead of `get_reward`. `max_turns`: the limit on turns.
        """
        super().__init__(render_mode)
        self._world = made("factory", factory, {}, imported("factory", factory))
        methods = dict(inspect.getmembers(type(self._world), inspect.isfunction))
        self._reward = None if reward is None else imported("reward", reward)
        if "reset" not in methods or (reward is None and "get_reward" not in methods):
            lacks = "reset" if "reset" not in methods else "get_reward"
            raise UserError("env.kwargs.factory", factory, f"has no method {lacks}", "see docs/environments.md")
        names = [name for name in methods if name not in OWN and not name.startswith("_")]
        self._tools = Tools(_described(factory, {name: methods[name] for name in names}))
        self._rows = _rows(tasks)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self._row: dict[str, Any] = {}
        self._prompt: list[Message] = []  # as it was shown
        self._said: list[Message] = []
        self._chance = Chance(0)
        self._call: ToolCall | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The public methods."""
        return self._tools.schemas

    def num_tasks(self, split: str) -> int:
        """Return the number of rows of a split."""
        return len(self._rows.get(split, ()))

    def begin(self, options: Mapping[str, Any]) -> list[Message]:
        """Reset the object with the row of `task_seed`."""
        split = options.get("split") or ("train" if self._rows["train"] else "eval")
        rows = self._rows[known("split", split, SPLITS)]
        if not rows:
            raise UserError(FIELD, split, "no rows of this split", f'give some of the rows "split": "{split}"')
        self._row, self._chance, self._call = rows[self.task_seed % len(rows)], Chance(self.task_seed), None
        given = json.loads(json.dumps(self._row))  # it may change what it is given
        prompt = given["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        with self._chance():
            added = self._world.reset(**given)
        if not isinstance(added, str | None):
            raise EnvError(f"reset returned {type(added).__name__}, neither a text nor None")
        last = messages[-1]
        self._said, self._prompt = [], [*messages[:-1], {**last, "content": last["content"] + (added or "")}]
        return self._prompt

    def act(self, action: Message) -> Message:
        """Call a tool, or end the episode with words."""
        self._call = None
        read = self._tools.read(action)
        if read is None:
            if not str(action["content"]).strip():
                raise InvalidAction("call a tool, or answer in words")
            self._said.append(action)
            self._pay()
            self.finish()
            return {"role": "user", "content": "over"}
        called, self._call = read
        answer = {"role": "tool", "content": cut(self._ask(called.real_name, self._call.arguments), MAX_SHOWN)}
        self._said += [action, answer]
        self._pay_at_the_limit()
        return answer

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed call on the channel `format`."""
        self.reward("format", -1.0)
        self._pay_at_the_limit()

    def gold(self) -> dict[str, Any] | None:
        """Return the row, as far as a policy is not told it."""
        return {key: value for key, value in self._row.items() if key not in ("prompt", "split")} or None

    def _ask(self, name: str, arguments: Mapping[str, Any]) -> str:
        try:
            with self._chance():
                result = _done(getattr(self._world, name)(**arguments))
        except Exception as error:  # noqa: BLE001  (as in TRL, what a tool raises is what its caller reads)
            return f"error: {error}"
        return result if isinstance(result, str) else json.dumps(result, default=str)

    def _pay(self) -> None:
        """Ask what the episode is worth."""
        with self._chance():
            value = _done(self._world.get_reward()) if self._reward is None else self._judged(self._reward)
        if value is None:
            raise EnvError("the episode's reward is None, which is no judgement")
        self.reward("outcome", Bounded().add(value))

    def _pay_at_the_limit(self) -> None:
        """Ask so after the last turn too: what was done counts, though no message ended the episode."""
        if self.num_turns == self.max_turns:
            self._pay()

    def _judged(self, function: Callable[..., Any]) -> Any:
        """Return what a reward function says of this one completion."""
        columns = {key: [value] for key, value in self._row.items() if key != "prompt"}
        given = {"prompts": [self._prompt], "completions": [self._said], "environments": [self._world]}
        found = _done(function(**given, **columns))
        if not isinstance(found, list | tuple) or len(found) != 1:
            raise EnvError("the reward function returned no list of one reward for one completion")
        return found[0]

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        """Add `call`, what was carried out."""
        info = super()._info(is_valid=is_valid)
        if is_valid and self._call is not None and self.num_turns:
            info["call"] = {"name": self._call.name, "arguments": dict(self._call.arguments)}
        return info


def _done(result: Any) -> Any:
    """Return a result, after waiting for one that is still to come."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _described(factory: Any, methods: Mapping[str, Callable[..., Any]]) -> list[Offered]:
    """Return methods as a model is told of them; UserError without type hints or docstring."""
    for name, method in methods.items():
        if not inspect.getdoc(method):
            problem = f"its method {name} has no docstring"
            raise UserError("env.kwargs.factory", factory, problem, "say what it does, or begin its name with _")
    try:
        tools = read_tools(type("Described", (), {name: tool(_alias(method)) for name, method in methods.items()}))
    except TypeError as error:
        raise UserError("env.kwargs.factory", factory, str(error), "correct its type hints") from error
    found = [(name, each.schema["function"]) for name, each in tools.items()]
    return [Offered(name=name, description=each["description"], parameters=each["parameters"]) for name, each in found]


def _alias(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is read as the method, and may be marked in its place."""

    @functools.wraps(method)
    def alias(*given: Any, **named: Any) -> Any:
        return method(*given, **named)

    return alias


def _rows(path: str | None) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a file by split; UserError for one without a prompt, or in both."""
    if not isinstance(path, str | Path):
        raise UserError(FIELD, path, "no file of rows", 'give JSONL of {"prompt": ..., "split": ...}')
    found: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    splits: dict[str, str] = {}  # by task
    for where, row in lines(path):
        prompt, split = row.get("prompt"), row.get("split", "train")
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        are_texts = isinstance(messages, list) and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in messages
        )
        if not messages or not are_texts:
            raise UserError(FIELD, where, '"prompt" is neither a text nor messages of texts', "correct the line")
        if split not in SPLITS:
            raise UserError(FIELD, where, f'"split" must be one of {", ".join(SPLITS)}', "correct the line")
        task = json.dumps({**row, "split": None}, sort_keys=True)
        if splits.setdefault(task, split) != split:
            raise UserError(FIELD, where, "the same row stands in both splits", "leave one of them out")
        found[split].append(row)
    if not any(found.values()):
        raise UserError(FIELD, path, "empty task set", 'write a line {"prompt": ...} a task')
    return found
