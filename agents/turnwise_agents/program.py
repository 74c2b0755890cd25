"""The agent `program`: any program that speaks OpenAI's chat completions plays the episodes, and the policy answers it.

What the program asks becomes tokens by dialogues like those of the agent `chat`; replies with calls are read for it.
The program decides what the policy sees; nothing of the environment is added to it here.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from turnwise.agent import Action, Program, Tokenizer, told
from turnwise.config import key
from turnwise.env.calls import ToolCall, parse_compact, parse_hermes_calls
from turnwise.errors import InvalidAction, UserError
from turnwise.records import IntArray, Message
from turnwise_agents.chat import ChatAgent, ChatConfig, ChatDialogue


@dataclass
class ProgramConfig:
    """Options of the agent `program`."""

    command: list[str] = key(  # noqa: RUF009
        [],
        "the program's words, with `{prompt}`, `{base_url}`, `{mcp_url}` or `{key}` as words of their own where wanted",
    )
    variables: dict[str, str] = key({}, "variables of its environment, besides those that tell it where the policy is")  # noqa: RUF009
    format: str = key(
        "hermes", "how a call is written: `hermes` (JSON), `compact` (`name value | value`) or `text` (there are none)"
    )
    max_context: int = key(
        1024,
        "tokens that prompt and reply may have together; at most `engine.max_context` and the model's positions",
        at_least=2,
    )
    max_action_tokens: int = key(128, "tokens of one reply, whatever more is asked for", at_least=1)
    max_requests: int = key(100, "requests of one episode, refused ones included", at_least=1)
    idle_s: float = key(120.0, "seconds without a request or call after which an episode has failed", above=0)


class ProgramAgent(ChatAgent):
    """Stands for a program; its dialogues begin with what the program says."""

    Config: ClassVar[type] = ProgramConfig

    def __init__(self, config: ProgramConfig, tokenizer: Tokenizer) -> None:
        """Check the options; UserError names the one that is wrong."""
        chat = ChatConfig(
            format=config.format,
            max_context=config.max_context,
            max_action_tokens=config.max_action_tokens,
        )
        super().__init__(chat, tokenizer)
        _check(config.command)
        self.program = Program(
            command=tuple(config.command),
            variables=dict(config.variables),
            max_requests=config.max_requests,
            idle_s=config.idle_s,
        )

    def begin(
        self, *, instructions: str, tools: Sequence[dict[str, Any]], observation: Sequence[Message]
    ) -> ProgramDialogue:
        """Return a dialogue that begins with these messages, of any roles.

        With `instructions` it is one of the warm start's, and begins as programs do that say what they were told.
        """
        if instructions:
            observation = [{"role": "user", "content": told(instructions, observation)}]
        tools = [_ordered(tool) for tool in tools]
        template = self._template("", tools if self._format.shows_tools else ())
        return ProgramDialogue(self._config, self._format, self._tokenizer, template, tools, observation)


class ProgramDialogue(ChatDialogue):
    """Reads calls for a program, which expects them apart from the text, and perhaps several at once."""

    def act(self, action_ids: IntArray) -> Action:
        """Append the sampled ids; the message has `tool_calls` if the text makes calls and all of them can be read."""
        action = super().act(action_ids)
        try:
            calls, text = self._read_calls(action.text)
        except InvalidAction:
            return replace(action, message={"role": "assistant", "content": action.text.strip()})
        message = {"role": "assistant", "content": text, "tool_calls": [call.as_openai() for call in calls]}
        return replace(action, message=message)

    def _read_calls(self, text: str) -> tuple[list[ToolCall], str]:
        """Return the calls and the text before them; InvalidAction if there are none."""
        if not self._tools or self._config.format == "text":
            raise InvalidAction("there are no tools")
        if self._config.format == "compact":
            return [parse_compact(text, self._tools)], ""
        return parse_hermes_calls(text), text.partition("<tool_call>")[0].strip()


def _ordered(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool with its keys in the order of `ToolEnv`'s, whichever way they took through servers and clients."""
    function, parameters = tool["function"], tool["function"]["parameters"]
    own = {name: parameters[name] for name in ("type", "properties", "required") if name in parameters}
    known = {name: function[name] for name in ("name", "description") if name in function}
    return {"type": "function", "function": {**known, **function, "parameters": {**own, **parameters}}}


def _check(command: Sequence[str]) -> None:
    if not command:
        raise UserError("agent.command", command, "no program is named", "give its words, as [python, /opt/agent.py]")
    if shutil.which(command[0]) is None:
        raise UserError("agent.command", command[0], "no such program", "name one on PATH, or by its full path")
    for word in command[1:]:
        if not Path(word).is_absolute() and Path(word).is_file():
            problem = "the program runs in a folder of its own"
            raise UserError("agent.command", word, problem, f"write {Path(word).absolute()}")
    for package in ("mcp", "starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            problem = f"the package {package} is not installed"
            raise UserError("agent.name", "program", problem, 'pip install "turnwise[mcp]"')
