"""`turnwise/MCP-v0`: the tools of any server of the Model Context Protocol, and tasks over them.

The server is a command, which runs in a sandbox of its own, or an address. Each episode has a fresh one, or a fresh
session, unless `fresh` is false. An agent sees the server's tools and `answer`; tools that set tasks up, or check them
at the end, are hidden unless `tools` names them. Rewards: `outcome` (0 to 1, when the episode is answered), `format`
(-1 for an action that cannot be carried out). A tool's own error is an observation; a server that dies, hangs, floods
or talks nonsense is a failure of the environment, within `start_s` or `call_s`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from turnwise.env import TurnEnv
from turnwise.env.bearer import read_token
from turnwise.env.calls import ToolCall, call_of, spell_hermes, unknown_tool
from turnwise.errors import EnvError, InvalidAction, UserError
from turnwise.records import Message
from turnwise.sandbox.tiers import strongest
from turnwise_envs.arguments import SANDBOX, number, sandbox_policy, truth, whole
from turnwise_envs.mcp.tasks import FIELD, load_tasks
from turnwise_envs.mcp.tools import Result, Tool, catalogue, cut

if TYPE_CHECKING:
    from turnwise_envs.mcp.connection import Connection

LIMITS: dict[str, Any] = {"memory_mb": 1024, "wall_s": 3600.0}
"""Where the sandbox of a server differs from a policy's defaults."""

ANSWER = "answer"
ANSWER_SCHEMA: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": ANSWER,
        "description": "Give the final answer, or say that the task is done, which ends the episode.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": []},
    },
}


class McpEnv(TurnEnv):
    """A server's tools."""

    needs = "a server, tasks, mcp"

    instructions = (
        "Do the task with the tools. When it is done, call answer(text), with the answer if one is asked for."
    )
    _answer_role: ClassVar[str] = "tool"

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        url: str | None = None,
        tasks: str | None = None,
        tools: Sequence[str] | None = None,
        max_turns: int = 20,
        fresh: bool = True,
        sandbox: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
        token_env: str | None = None,
        token_file: str | None = None,
        start_s: float = 20.0,
        call_s: float = 30.0,
        shown_chars: int = 8000,
        render_mode: str | None = None,
    ) -> None:
        """Read the tasks; UserError for a value that does not fit. The server is started at the first reset.

        `command` (words) or `url`: the server. `tasks`: the file (`tasks.py`). `tools`: names of the server's tools
        that an agent sees; unless given, all that no task calls by itself. `fresh`: a server for each episode.
        `sandbox`: keys of the policy, and `variables`: the environment, of a command. `token_env`, `token_file`: where
        the bearer token for `url` is. `start_s`, `call_s`: seconds for a start and a call. `shown_chars`: of a result.
        """
        if importlib.util.find_spec("mcp") is None:
            raise UserError("env.id", "turnwise/MCP-v0", "mcp is not installed", 'pip install "turnwise[mcp]"')
        self._command, self._url = _words("command", command), url
        if (command is None) == (url is None):
            problem = "no server" if url is None else "a second server, beside the command"
            raise UserError("env.kwargs.url", url, problem, "give command=[words] or url=http://...")
        if url is not None and not str(url).startswith(("http://", "https://")):
            raise UserError("env.kwargs.url", url, "no address", "write http://host:port/mcp")
        for name, given in (("sandbox", sandbox), ("variables", variables)):
            if given and self._command is None:
                raise UserError(f"env.kwargs.{name}", given, "has no effect on an address", "leave it out")
        self._tasks, self._allowed = load_tasks(tasks), _words("tools", tools)
        self.sample_actions = self._samples()
        super().__init__(render_mode)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self._fresh, self._shown = truth("fresh", fresh), whole("shown_chars", shown_chars, 100, 500_000)
        self._start_s, self._call_s = number("start_s", start_s, 0.01, 3600), number("call_s", call_s, 0.01, 3600)
        self._variables = _texts("variables", variables or {})
        self._token = None
        if token_env is not None or token_file is not None:
            self._token = read_token(token_env, token_file)
        if self._command is not None:
            self._policy = sandbox_policy(sandbox, LIMITS)
            self.sandbox_tier = strongest(self._policy, SANDBOX).value
        self._connection: Connection | None = None
        self._catalogue: dict[str, Tool] = {}
        self._task = next(task for found in self._tasks.values() for task in found)
        self._call: ToolCall | None = None
        self._history: list[str] = []  # what was called and what came of it

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The server's tools and `answer`; only the latter before the first reset."""
        return [*(tool.schema for tool in self._catalogue.values()), ANSWER_SCHEMA]

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        return len(self._tasks.get(split, ()))

    def begin(self, options: Mapping[str, Any]) -> str:
        """Look up the task of `task_seed`, have a server, and set the task up."""
        split = options.get("split") or ("train" if self._tasks["train"] else "eval")
        tasks = self._tasks.get(split, ())
        if not tasks:
            raise UserError(FIELD, split, "no tasks of this split", f'give some of the tasks "split": "{split}"')
        self._task, self._call, self._history = tasks[self.task_seed % len(tasks)], None, []
        if self._fresh:
            self.close()
        self._connection = self._connection or self._connect()
        if self._task.setup is not None:
            result = self._ask(self._task.setup.name, self._task.setup.arguments)
            if result.is_error:
                raise EnvError(f"the set-up {self._task.setup.name} failed: {result.text[:200]}")
        return self._task.prompt

    def act(self, action: Message) -> str:
        """Call a tool, or end the episode with an answer."""
        self._call = None
        call = call_of(action, self.tools)
        if call.name == ANSWER:
            return self._answered(call)
        tool = self._catalogue.get(call.name)
        if tool is None:
            raise unknown_tool(call.name, self.tools)
        self._call = ToolCall(name=call.name, arguments=tool.check(call.arguments))
        result = self._ask(tool.real_name, self._call.arguments)
        self._history.append(f"{spell_hermes(self._call)}\x1e{result.text}")
        text = cut(result.text, self._shown)
        return f"error: {text}" if result.is_error else text

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed action on the channel `format`."""
        self.reward("format", -1.0)

    def state_key(self) -> str:
        """Return a digest of the task, the calls made and what came of them."""
        state = "\x1f".join((self._task.name, *self._history))
        return blake2b(state.encode(errors="replace"), digest_size=8).hexdigest()

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return the task's next call, and after the last one the answer; None for a task that tells no calls."""
        if not self._task.calls and not self._task.answers:
            return None
        shown = {tool.real_name: tool.name for tool in self._catalogue.values()}
        if len(self._history) < len(self._task.calls):
            call = self._task.calls[len(self._history)]
            return spell_hermes(ToolCall(name=shown.get(call.name, call.name), arguments=call.arguments))
        return spell_hermes(ToolCall(name=ANSWER, arguments={"text": (*self._task.answers, "done")[0]}))

    def gold(self) -> dict[str, Any]:
        """Return the prompt, the first right answer and the calls that solve the task, as far as it tells them."""
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in self._task.calls]
        return {"question": self._task.prompt, "answer": "".join(self._task.answers[:1]), "calls": calls}

    def close(self) -> None:
        """End the session, and the server with its sandbox; a reset begins another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        """Begin a session and choose its tools; UserError for names that the server does not know."""
        from turnwise_envs.mcp.address import Address
        from turnwise_envs.mcp.command import Command
        from turnwise_envs.mcp.connection import Connection

        way = (
            Address(str(self._url), self._token)
            if self._command is None
            else Command(self._command, self._policy, self._variables, SANDBOX)
        )
        connection = Connection(way, start_s=self._start_s, call_s=self._call_s)
        try:
            known = [tool.name for tool in connection.tools]
            hidden = {name for found in self._tasks.values() for task in found for name in task.hidden}
            for name, field in (*((n, "env.kwargs.tools") for n in self._allowed or ()), *((n, FIELD) for n in hidden)):
                if name not in known:
                    remedy = f"one of: {', '.join(known)[:500]}"
                    raise UserError(field, name, "the MCP server has no such tool", remedy)
            wanted = set(known) - hidden if self._allowed is None else set(self._allowed)
            self._catalogue = catalogue([tool for tool in connection.tools if tool.name in wanted], [ANSWER])
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """Call a tool; a session in which that failed is not used again."""
        if self._connection is None:
            raise EnvError("the MCP server is gone")
        try:
            return self._connection.call(name, arguments)
        except BaseException:
            self.close()
            raise

    def _answered(self, call: ToolCall) -> str:
        """Decide the outcome and end the episode."""
        text = call.arguments.get("text", "")
        if set(call.arguments) - {"text"} or not isinstance(text, str):
            raise InvalidAction("answer takes a text")
        if self._task.answers and not text.strip():
            raise InvalidAction("answer needs text")
        outcome, check = float(self._task.is_right(text)), self._task.check
        if check is not None:
            outcome *= check.verdict(self._ask(check.call.name, check.call.arguments))
        self._call = call
        self.reward("outcome", outcome)
        self.finish()
        return "correct" if outcome == 1.0 else "wrong"

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        """Add `call`, what was carried out; nothing after `reset` and for a malformed action."""
        info = super()._info(is_valid=is_valid)
        if is_valid and self._call is not None and self.num_turns:
            info["call"] = {"name": self._call.name, "arguments": dict(self._call.arguments)}
        return info

    def _samples(self) -> tuple[str, ...]:
        """Return calls and answers of the tasks, right and wrong ones."""
        tasks = [task for found in self._tasks.values() for task in found][:4]
        calls = dict.fromkeys(spell_hermes(call) for task in tasks for call in task.calls)
        return (*list(calls)[:8], *(f"{ANSWER} {task.answers[0]}" for task in tasks if task.answers), ANSWER, "hello")


def _words(name: str, given: Any) -> list[str] | None:
    if given is None:
        return None
    is_list = isinstance(given, Sequence) and not isinstance(given, str) and bool(given)
    if not is_list or not all(isinstance(word, str) and "\0" not in word for word in given):
        raise UserError(f"env.kwargs.{name}", given, "no list of texts", f"write {name}=[first, second]")
    return list(given)


def _texts(name: str, given: Any) -> dict[str, str]:
    is_mapping = isinstance(given, Mapping) and all(isinstance(text, str) for pair in given.items() for text in pair)
    if not is_mapping or any("\0" in text or "=" in key for key, text in given.items()):
        raise UserError(f"env.kwargs.{name}", given, "no texts by name", f"write {name}.NAME=text")
    return dict(given)
