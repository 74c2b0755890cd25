"""`turnwise/Verifiers-v0`: tasksets of the package verifiers (its v1 API): prompts, tools in Python, and rewards.

Our agent takes the place of the package's harness: it reads the task's prompt and calls the tools of task and taskset
in this process. A message without a call ends the episode, which the task's own reward functions then score. Rewards:
`outcome`, their weighted sum, kept within -1 and 1; `format`, -1 for a malformed call. The package's runtimes are not
used: a task that needs a container, prepares a machine or is scored in one is refused, and so are tools with a state.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from turnwise.env import ToolCall, TurnEnv
from turnwise.errors import EnvError, InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.adapters.bounded import Bounded
from turnwise_envs.adapters.calling import Tools
from turnwise_envs.adapters.chance import Chance
from turnwise_envs.adapters.package import by_name, load, made
from turnwise_envs.arguments import whole
from turnwise_envs.mcp.tools import Offered, cut, read_result

ENV_ID = "turnwise/Verifiers-v0"
INSTALL = '--no-deps verifiers==0.4.0 and the extra "verifiers"'
EVERY = 5  # of so many tasks one is held out
MAX_SHOWN = 100_000


class VerifiersEnv(TurnEnv):
    """A task of a taskset."""

    needs = "verifiers, a taskset"
    instructions = "Do the task. A message that calls no tool is the final answer."

    def __init__(
        self,
        *,
        taskset: str | None = None,
        config: Mapping[str, Any] | None = None,
        eval_config: Mapping[str, Any] | None = None,
        max_tasks: int = 1000,
        max_turns: int = 20,
        render_mode: str | None = None,
    ) -> None:
        """Read the tasks; UserError for a taskset that there is not, or that needs more than this process.

        `taskset`: the module of the package's taskset, as `eval` takes it. `config`: fields of its configuration;
        `eval_config`: those of held-out tasks, without which every fifth task is held out. `max_tasks`: so many are
        read of each. `max_turns`: the limit on turns.
        """
        super().__init__(render_mode)
        self._vf = load(ENV_ID, "verifiers.v1", INSTALL)
        most, self.max_turns = whole("max_tasks", max_tasks, 1, 10**6), whole("max_turns", max_turns, 1, 10_000)
        first = self._read("config", taskset, by_name("config", config), most)
        if eval_config is not None:
            self._tasks = {
                "train": first,
                "eval": self._read("eval_config", taskset, by_name("eval_config", eval_config), most),
            }
        else:
            held_out = first[EVERY - 1 :: EVERY]
            self._tasks = {"train": [each for each in first if each not in held_out], "eval": held_out}
        self._task: Any = None
        self._tools, self._mcp = Tools(), None
        self._messages: list[Any] = []
        self._chance = Chance(0)
        self._call: ToolCall | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The task's tools; none before the first reset."""
        return self._tools.schemas

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        return len(self._tasks.get(split, ()))

    def begin(self, options: Mapping[str, Any]) -> list[Message]:
        """Begin the task of `task_seed`, with tools of its own."""
        split = options.get("split") or "train"
        if not self._tasks.get(split):
            raise UserError("split", split, "no tasks of this split", "give train or eval, and more tasks")
        taskset, self._task = self._tasks[split][self.task_seed % len(self._tasks[split])]
        self._chance, self._call, data = Chance(self.task_seed), None, self._task.data
        prompt = (
            [self._vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else list(data.prompt or ())
        )
        if not prompt:
            raise EnvError("the task has no prompt")
        system = [self._vf.SystemMessage(content=data.system_prompt)] if data.system_prompt else []
        self._messages = [*system, *prompt]
        self._wait(self._open(taskset))
        return [{"role": each.role, "content": _text(each.content)} for each in self._messages]

    def act(self, action: Message) -> Message:
        """Call a tool, or answer, which ends the episode."""
        self._call, text = None, str(action["content"])
        read = self._tools.read(action)
        if read is None:
            if not text.strip():
                raise InvalidAction("answer in words, or call a tool")
            self._messages.append(self._vf.AssistantMessage(content=text))
            self.reward("outcome", Bounded().add(self._wait(self._score())))
            self.finish()
            return {"role": "user", "content": "over"}
        tool, self._call = read
        said = self._wait(self._use(tool.real_name, dict(self._call.arguments)))
        name, id = tool.real_name, f"call_{self.num_turns}"
        made_call = self._vf.ToolCall(id=id, name=name, arguments=json.dumps(dict(self._call.arguments)))
        self._messages.append(self._vf.AssistantMessage(content=text, tool_calls=[made_call]))
        self._messages.append(self._vf.ToolMessage(tool_call_id=id, content=said))
        return {"role": "tool", "content": said}

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed call on the channel `format`."""
        self.reward("format", -1.0)

    def gold(self) -> dict[str, Any] | None:
        """Return the task's data, as plain JSON."""
        return None if self._task is None else dict(self._task.data.model_dump(mode="json", exclude_defaults=True))

    sample_actions = ("hello", "7", "yes", '<tool_call>{"name": "x", "arguments": {}}</tool_call>')

    def _read(self, field: str, name: Any, given: dict[str, Any], most: int) -> list[Any]:
        """Return tasks, each with its taskset."""
        try:
            config_type = self._vf.taskset_config_type(name)
        except (ImportError, TypeError, ValueError, AttributeError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(
                "env.kwargs.taskset", name, f"no taskset ({said})", "install it or correct its name"
            ) from error
        taskset = made(field, given, name, lambda: self._vf.load_taskset(config_type(id=name, **given)))
        tasks = made(field, given, name, lambda: list(itertools.islice(taskset, most)))
        for task in tasks[:1]:
            self._refuse(name, task)
        if not tasks:
            raise UserError("env.kwargs.taskset", name, "empty task set", "correct its configuration")
        return [(taskset, task) for task in tasks]

    def _refuse(self, name: str, task: Any) -> None:
        """UserError for a task that needs what only the package's harness has."""
        scored = [fn for fn in task.hooks("reward") if _needs_runtime(fn)]
        is_set_up = any(getattr(type(task), hook) is not getattr(self._vf.Task, hook) for hook in ("setup", "finalize"))
        if task.NEEDS_CONTAINER or scored or is_set_up:
            problem = "its tasks need a runtime of verifiers'"
            raise UserError("env.kwargs.taskset", name, problem, "choose one that is scored from the messages alone")

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        with self._chance():
            return asyncio.run(work)

    async def _open(self, taskset: Any) -> None:
        """Register the tools of task and taskset with a server that nobody but this environment asks."""
        from mcp.server.mcpserver import MCPServer

        self._mcp = MCPServer(ENV_ID)
        own = type(self._task).toolsets(self._task.config)
        for toolset in (*type(taskset).toolsets(taskset.config), *own):
            if toolset._state_cls is not self._vf.State:
                raise UserError(
                    "env.kwargs.taskset", type(taskset).__name__, "its tools share a state", "choose another"
                )
            await toolset.setup()
            if toolset in own:
                await toolset.setup_task(self._task.data)
            toolset.register(self._mcp)
        self._tools = Tools([_offered(tool) for tool in await self._mcp.list_tools()])

    async def _use(self, name: str, arguments: dict[str, Any]) -> str:
        from mcp.server.mcpserver.exceptions import ToolError

        try:
            result = read_result(await self._mcp.call_tool(name, arguments))
        except ToolError as error:
            return f"error: {error}"
        return cut(f"error: {result.text}" if result.is_error else result.text, MAX_SHOWN)

    async def _score(self) -> float:
        """Return the weighted sum of the task's rewards for the messages."""
        vf, task = self._vf, self._task
        about = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        trace = vf.Trace(task=about, state=vf.State(), agent=vf.AgentInfo(config=vf.AgentConfig()))
        for place, message in enumerate(self._messages):
            is_own = isinstance(message, vf.AssistantMessage)
            trace.nodes.append(vf.MessageNode(parent=place - 1 if place else None, message=message, sampled=is_own))
        trace.is_completed = True
        await task.score(trace)
        return float(trace.reward)

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        """Add `call`, what was carried out."""
        info = super()._info(is_valid=is_valid)
        if is_valid and self._call is not None and self.num_turns:
            info["call"] = {"name": self._call.name, "arguments": dict(self._call.arguments)}
        return info


def _needs_runtime(function: Callable[..., Any]) -> bool:
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _offered(tool: Any) -> Offered:
    return Offered(name=tool.name, description=tool.description or "", parameters=tool.input_schema)


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise EnvError("a task's prompt has pictures, which this environment does not show")
    return content
