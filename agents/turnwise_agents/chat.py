"""The chat agent: a dialogue in the model's own chat template, grown token by token.

Rollout workers and the recorder of demonstrations use it. What was sampled is kept as it is: text is only ever encoded
for what the environment says. It does not judge actions; a malformed one goes to the environment as text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from turnwise.agent import Action, Prompt, Tokenizer
from turnwise.config import key
from turnwise.errors import PolicyError, UserError
from turnwise.records import IntArray, Message
from turnwise_agents.formats import Format, format_named
from turnwise_agents.template import Template


@dataclass
class ChatConfig:
    """Options of the agent `chat`."""

    format: str = key(
        "compact", "how an action is written: `compact` (`name value | value`), `hermes` (a JSON tool call) or `text`"
    )
    max_context: int = key(
        1024,
        "tokens that prompt and action may have together; at most `engine.max_context` and the model's positions",
        at_least=2,
    )
    max_action_tokens: int = key(32, "tokens of one action", at_least=1)
    history_turns: int | None = key(
        None, "exchanges that the policy sees besides the latest observation; `null`: all", at_least=0
    )
    show_instructions: bool | None = key(
        None, "whether the environment's instructions stand in a system message; `null`: unless `compact`"
    )
    system_prompt: str | None = key(None, "text that precedes the instructions in the system message")


class ChatAgent:
    """Talks through the model's chat template; shared by all episodes of a worker."""

    Config: ClassVar[type] = ChatConfig

    def __init__(self, config: ChatConfig, tokenizer: Tokenizer) -> None:
        """Check the options; UserError names the one that is wrong."""
        _check(config)
        self.max_context, self.max_action_tokens = config.max_context, config.max_action_tokens
        self._config, self._tokenizer = config, tokenizer
        self._format = format_named(config.format)
        self._templates: dict[tuple[str, str], Template] = {}
        self._template("", ())  # a tokenizer without a usable template is refused before anything starts

    def begin(
        self, *, instructions: str, tools: Sequence[dict[str, Any]], observation: Sequence[Message]
    ) -> ChatDialogue:
        """Return the dialogue of a new episode."""
        template = self._template(self._system_text(instructions), tools if self._format.shows_tools else ())
        return ChatDialogue(self._config, self._format, self._tokenizer, template, tools, observation)

    def _system_text(self, instructions: str) -> str:
        chosen = self._config.show_instructions
        is_shown = self._format.shows_instructions if chosen is None else chosen
        return "\n\n".join(part for part in (self._config.system_prompt, instructions if is_shown else "") if part)

    def _template(self, system: str, tools: Sequence[dict[str, Any]]) -> Template:
        key = (system, json.dumps(tools) if tools else "")
        if key not in self._templates:
            self._templates[key] = Template(self._tokenizer, system, tools)
        return self._templates[key]


class ChatDialogue:
    """One episode's tokens. `prompt`, `act` and `observe` take turns."""

    def __init__(
        self,
        config: ChatConfig,
        format_: Format,
        tokenizer: Tokenizer,
        template: Template,
        tools: Sequence[dict[str, Any]],
        observation: Sequence[Message],
    ) -> None:
        """Encode the first prompt."""
        self._config, self._format, self._tokenizer = config, format_, tokenizer
        self._template, self._tools = template, tools
        self._context = self._new = self._encode(template.opening(observation))
        self._observations = [list(observation)]  # the last `history_turns + 1` of them, where history is limited
        self._exchanges: list[IntArray] = []  # an action and the encoded answer; one fewer than observations
        self._action: IntArray = _ids([])
        self._has_acted = False

    def prompt(self) -> Prompt:
        """Return the context for the next action; PolicyError if the very first one leaves no room for an action."""
        if not self._has_acted and self.is_full:
            limits = f"max_context {self._config.max_context}, max_action_tokens {self._config.max_action_tokens}"
            raise PolicyError(f"the first prompt has {self.num_context_tokens} tokens ({limits})")
        starts_context = self._config.history_turns is not None
        return Prompt(context_ids=self._context, observation_ids=self._new, starts_context=starts_context)

    @property
    def num_context_tokens(self) -> int:
        """Length of the context that `prompt` returns."""
        return len(self._context)

    @property
    def is_full(self) -> bool:
        """Whether `max_action_tokens` more tokens would exceed `max_context`."""
        return len(self._context) + self._config.max_action_tokens > self._config.max_context

    def act(self, action_ids: IntArray) -> Action:
        """Append the sampled ids and return the action they spell."""
        self._has_acted, self._action = True, _ids(action_ids)
        self._context = np.concatenate([self._context, self._action])
        text = self._tokenizer.decode(self._action.tolist(), skip_special_tokens=True).removeprefix(self._template.lead)
        return Action(message=self._format.read(text), text=text)

    def observe(self, messages: Sequence[Message]) -> None:
        """Append what the environment answered; with limited history, begin the context anew."""
        is_ended = len(self._action) > 0 and int(self._action[-1]) == self._template.end_id
        suffix = self._encode(self._template.suffix(messages, is_ended=is_ended))
        if self._config.history_turns is None:
            self._context, self._new = np.concatenate([self._context, suffix]), suffix
        else:
            self._shift(self._config.history_turns, messages, suffix)

    def fork(self) -> Self:
        """Return a dialogue that goes on from here by itself: nothing that a dialogue holds is changed in place."""
        return copy.copy(self)

    def spell(self, text: str) -> IntArray:
        """Return the ids with which a demonstrated action would be sampled, end-of-turn token included."""
        return self._encode(self._template.lead + self._format.spell(text, self._tools) + self._template.end)

    def _shift(self, history_turns: int, messages: Sequence[Message], suffix: IntArray) -> None:
        """Keep the last `history_turns` exchanges and the latest observation; actions stay as they were sampled."""
        self._observations = [*self._observations, list(messages)][-history_turns - 1 :]
        exchange = np.concatenate([self._action, suffix])
        self._exchanges = [*self._exchanges, exchange][-history_turns:] if history_turns else []
        opening = self._encode(self._template.opening(self._observations[0]))
        self._context = self._new = np.concatenate([opening, *self._exchanges])

    def _encode(self, text: str) -> IntArray:
        return _ids(self._tokenizer.encode(text, add_special_tokens=False))


def _ids(values: Sequence[int] | IntArray) -> IntArray:
    return np.array(values, dtype=np.int32)


def _check(config: ChatConfig) -> None:
    if config.max_action_tokens < 1:
        raise UserError("agent.max_action_tokens", config.max_action_tokens, "no action fits", "set it to at least 1")
    if config.max_context <= config.max_action_tokens:
        problem = f"leaves no prompt beside max_action_tokens={config.max_action_tokens}"
        raise UserError("agent.max_context", config.max_context, problem, "set it to the model's context length")
    if config.history_turns is not None and config.history_turns < 0:
        remedy = "set it to 0 or more, or to null for all"
        raise UserError("agent.history_turns", config.history_turns, "is negative", remedy)
