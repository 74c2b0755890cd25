"""Action formats: how an action is read from sampled text, and how a demonstration is spelt.

`compact` and `text` hand the text to the environment as it is; `hermes` finds the JSON call in it. None of them answers
a malformed action: the environment gets it as plain text and answers it, so that there is one place for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from turnwise.env.calls import in_order, parse_compact, parse_hermes, spell_compact, spell_hermes
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise.registry import suggestion

Tools = Sequence[dict[str, Any]]

_END_OF_THOUGHT = "</think>"


class Format(Protocol):
    """One way to write actions."""

    @property
    def shows_tools(self) -> bool:
        """Whether the chat template gets the tools' schemas."""

    @property
    def shows_instructions(self) -> bool:
        """Whether the environment's instructions stand in a system message by default."""

    def read(self, text: str) -> Message:
        """Return the assistant message that sampled text makes."""

    def spell(self, text: str, tools: Tools) -> str:
        """Return a demonstrated action, given in compact or free text, in this format."""


@dataclass(frozen=True, slots=True)
class TextFormat:
    """The sampled text is the action."""

    shows_tools: bool = False
    shows_instructions: bool = True

    def read(self, text: str) -> Message:
        """Return the text as it is."""
        return {"role": "assistant", "content": text}

    def spell(self, text: str, tools: Tools) -> str:
        """Return the text as it is."""
        return text


@dataclass(frozen=True, slots=True)
class CompactFormat:
    """`name value | value`, which tool environments read themselves."""

    shows_tools: bool = False
    shows_instructions: bool = False

    def read(self, text: str) -> Message:
        """Return the text without surrounding space."""
        return {"role": "assistant", "content": text.strip()}

    def spell(self, text: str, tools: Tools) -> str:
        """Return the text; a call in JSON is converted if this format can say the same."""
        if not tools or "<tool_call>" not in text:
            return text
        try:
            call = parse_hermes(text)
            spelt = spell_compact(in_order(call, tools))
            return spelt if parse_compact(spelt, tools) == call else text
        except InvalidAction:
            return text


@dataclass(frozen=True, slots=True)
class HermesFormat:
    """`<tool_call>{"name": ..., "arguments": ...}</tool_call>`, after thoughts or other text."""

    shows_tools: bool = True
    shows_instructions: bool = True

    def read(self, text: str) -> Message:
        """Return the text, with `tool_calls` if there is exactly one call after the last thought."""
        message: Message = {"role": "assistant", "content": text.strip()}
        try:
            call = parse_hermes(text.rpartition(_END_OF_THOUGHT)[2])
        except InvalidAction:
            return message
        return message | {"tool_calls": [call.as_openai()]}

    def spell(self, text: str, tools: Tools) -> str:
        """Return the JSON of a compact call; a text that is none (a deliberately bad action, say) stays as it is."""
        if not tools or "<tool_call>" in text:
            return text
        try:
            return spell_hermes(parse_compact(text, tools))
        except InvalidAction:
            return text


FORMATS: dict[str, Format] = {"compact": CompactFormat(), "hermes": HermesFormat(), "text": TextFormat()}


def format_named(name: str) -> Format:
    """Return the format; UserError for an unknown name."""
    if name not in FORMATS:
        raise UserError("agent.format", name, "no such action format", suggestion(str(name), sorted(FORMATS)))
    return FORMATS[name]
