"""`turnwise env play`: a person acts in an environment, a line an action, and may keep the episode as a demonstration.

The person reads what the policy would. A line that begins with `:` speaks to the command instead, and costs no turn.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console

from turnwise.config.schema import EvalConfig
from turnwise.demonstration_files import append, is_of, read
from turnwise.demonstrations import Recorder, reset_options
from turnwise.env.base import TurnEnv
from turnwise.env.tools import ToolEnv
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message, Task
from turnwise.tasks import make_env, world_of

BLOCK = '"""'
"""A line of it begins and ends an action of several lines."""

FIELD = "--record"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

HELP = """\
  :help            this
  :tools           the instructions and the tools again
  :oracle ACTION   what the action is worth here
  :hint            what the environment's own demonstrator would do, which is not always good
  :quit            leave; so does the end of the input
  ::TEXT           the action `:TEXT`
  \"""              the lines up to the next such line are one action
Ctrl-C drops a line; twice in a row, it leaves. An empty line does nothing."""


class Player:
    """One episode at a terminal."""

    def __init__(self, env: gymnasium.Env[Any, Any], task: Task, console: Console, *, is_recorded: bool) -> None:
        """With `is_recorded`, a line that is no action at all is refused before the environment sees it."""
        self.recorder: Recorder | None = None
        self.is_over = False
        self._env, self._task, self._console, self._is_recorded = env, task, console, is_recorded
        self._world = world_of(env)
        self._rng = np.random.default_rng(task.seed)  # of hints

    def play(self) -> None:
        """Begin the episode and act until it is over, the person leaves, or the input ends."""
        shown, _ = self._env.reset(seed=self._task.seed, options=reset_options(self._task, self._task.seed))
        self.recorder = Recorder(self._world, self._task, shown)
        self._show_tools()
        self._show_messages(shown)
        for line in self._lines():
            command, _, rest = line.strip().removeprefix(":").partition(" ")
            if line.startswith("::") or not line.startswith(":"):
                self._act(self.recorder, line.removeprefix(":"))
            elif command == "quit":
                return self.say("(stopped)")
            else:
                self._answer(command, rest.strip())
            if self.is_over:
                return None
        return self.say("\n(end of input)")

    def _lines(self) -> Iterator[str]:
        """Yield the lines that say something, and those between two lines of `BLOCK` as one action."""
        block: list[str] | None = None
        for line in self._typed():
            if line is None:
                block = None
            elif line.strip() == BLOCK:
                text, block = "\n".join(block or ()), [] if block is None else None
                if text.strip():
                    yield f":{text}" if text.startswith(":") else text
            elif block is not None:
                block.append(line)
            elif line.strip():
                yield line

    def _typed(self) -> Iterator[str | None]:
        """Yield line by line after a prompt each, None for one that Ctrl-C dropped; a second one in a row is raised."""
        is_interrupted = False
        while True:
            self._console.print("> ", end="")
            try:
                line = sys.stdin.readline()
            except KeyboardInterrupt:
                if is_interrupted:
                    raise
                is_interrupted = True
                self.say("\n(dropped; Ctrl-C again or :quit leaves)")
                yield None
                continue
            is_interrupted = False
            if not line:
                return
            yield line.rstrip("\n")

    def _act(self, recorder: Recorder, action: str) -> None:
        if self._is_recorded and (problem := self._problem(action)):
            return self.say(f"not sent, since it would be recorded: {problem}", style="red")
        shown, _, terminated, truncated, info = self._env.step(action)
        recorder.add(action, shown, info)
        self.is_over = terminated or truncated
        self._show_messages(shown)
        for event in info["events"]:
            self.say(f"  {event.channel} {event.value:+g}", style="green" if event.value > 0 else "red")
        if self.is_over:
            self.say("(over)" if terminated else "(out of turns)")
        return None

    def _problem(self, action: str) -> str:
        """Return why a line is no action at all, as far as can be told before it is carried out; empty: it is one."""
        if not self._world.action_space.contains(action):
            return "an action is a text that UTF-8 can hold"
        if isinstance(self._world, ToolEnv):
            try:
                self._world.read_call({"role": "assistant", "content": action})
            except InvalidAction as error:
                return str(error)
        return ""

    def _answer(self, command: str, rest: str) -> None:
        if command == "help":
            self.say(HELP)
        elif command == "tools":
            self._show_tools()
        elif command == "oracle":
            self._show_oracle(rest)
        elif command == "hint":
            self.say(self._world.demonstrate(self._rng) or "no hint: nothing is demonstrated here")
        else:
            self.say(f"no command :{command}; :help shows them", style="red")

    def _show_oracle(self, action: str) -> None:
        if type(self._world).oracle is TurnEnv.oracle:
            return self.say("this environment has no oracle")
        if not action:
            return self.say("of which action? :oracle ACTION")
        value = self._world.oracle(action)
        return self.say("unknown" if value is None else f"{value:+g}")

    def _show_tools(self) -> None:
        if self._world.instructions:
            self.say(self._world.instructions, style="dim")
        for schema in self._world.tools:
            function = schema["function"]
            names = " | ".join(function["parameters"]["properties"])
            self.say(f"  {function['name']} {names}    {function.get('description', '')}", style="cyan")

    def _show_messages(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.say(f"{message['role']}: {message['content']}")
            if "image" in message:
                self.say(f"picture: {message['image']}", style="dim")

    def say(self, text: str, style: str | None = None) -> None:
        """Show a text, whoever wrote it: what would command the terminal, or cannot be written there, is a `?`."""
        self._console.print(_CONTROL.sub("?", text), style=style, markup=False, soft_wrap=True)


def play(
    env_id: str,
    kwargs: Mapping[str, Any],
    task: Task,
    console: Console,
    *,
    file: Path | None = None,
    keeps_all: bool = False,
    screenshots: Path | None = None,
) -> None:
    """Let a person play a task, and append the episode to `file` if it ended well (`keeps_all`: however it went)."""
    if file is not None:
        _check_file(file, task.env_id)
    elif keeps_all:
        raise UserError("--keep-all", "true", "has no effect without --record", "give --record FILE, or leave it out")
    env = make_env(env_id, kwargs) if screenshots is None else _with_pictures(env_id, kwargs, screenshots)
    player = Player(env, task, console, is_recorded=file is not None)
    try:
        with _in_order():
            player.play()
    except KeyboardInterrupt:
        console.print("\n(stopped)")
    finally:
        try:
            if file is not None:
                player.say(_keep(player, file, keeps_all))
        finally:
            env.close()


@contextmanager
def _in_order() -> Iterator[None]:
    """Let a terminal that is closed, or `kill`, end the command as :quit would; any bytes are a line."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGHUP, signal.SIGTERM)}
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


def _keep(player: Player, file: Path, keeps_all: bool) -> str:
    """Append the episode if it is to be kept, and say what was done."""
    recorder, good = player.recorder, EvalConfig().success_threshold
    if recorder is None or not recorder.num_actions:
        return "not recorded: nothing was done"
    if not keeps_all and not player.is_over:
        return "not recorded: the episode did not end (--keep-all keeps such)"
    if not keeps_all and recorder.outcome <= good:
        return f"not recorded: its outcome {recorder.outcome:g} is not above {good:g} (--keep-all keeps such)"
    append(file, recorder.demonstration(), FIELD)
    return f"recorded in {file}: {recorder.num_actions} actions, outcome {recorder.outcome:g}"


def _check_file(file: Path, env_id: str) -> None:
    """Refuse, before anybody plays, a file that cannot take the episode."""
    folder = file.parent
    if not folder.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise UserError(FIELD, file, "cannot be written", "name a file in a folder that can be written to")
    for where, demonstration in read(file, FIELD) if file.exists() else ():
        if not is_of(demonstration.task, env_id):
            problem = f"holds demonstrations of {demonstration.task.env_id}"
            raise UserError(FIELD, where, problem, "name another file")


def _with_pictures(env_id: str, kwargs: Mapping[str, Any], folder: Path) -> gymnasium.Env[Any, Any]:
    try:
        return make_env(env_id, {**kwargs, "screenshots": str(folder)})
    except UserError as error:
        if error.field != "env.kwargs.screenshots":
            raise
        raise UserError("--screenshots", folder, f"{env_id} has no pictures", "leave it out") from error
