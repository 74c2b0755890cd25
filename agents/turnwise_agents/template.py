"""A model's chat template, taken apart once so that a dialogue can grow without rendering it again.

`Template` learns, for each *shape* of messages (their roles), the text that the template puts around their contents, by
rendering marked conversations. Shapes whose contents the template does more to than trimming are rendered every time.
It promises nothing for templates that change earlier messages when later ones are added: those are refused. Templates
that drop the thoughts of earlier assistant messages pass; a dialogue keeps the thoughts that were sampled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnwise.agent import Tokenizer
from turnwise.errors import UserError
from turnwise.records import Message

MAX_SHAPES = 256
"""Shapes remembered by one template; further ones are learnt again each time."""

_MARK = "turnwise mark"
_TRIMS: tuple[Callable[[str], str], ...] = (str, str.strip, str.lstrip, str.rstrip)

Key = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """The text around the contents of messages."""

    pieces: tuple[str, ...]  # [num_messages + 1]
    trims: tuple[Callable[[str], str], ...]  # [num_messages] what the template does to each content

    def fill(self, contents: Sequence[str]) -> str:
        """Return the rendered text."""
        parts = [self.pieces[0]]
        for content, trim, piece in zip(contents, self.trims, self.pieces[1:], strict=True):
            parts += (trim(content), piece)
        return "".join(parts)


class Template:
    """One tokenizer's chat template with the tools of one environment; shared by all its dialogues."""

    def __init__(self, tokenizer: Tokenizer, system: str, tools: Sequence[dict[str, Any]]) -> None:
        """Learn how the template ends a turn; UserError naming `model.path` if it is missing or not append-only."""
        self._tokenizer, self._tools = tokenizer, list(tools) or None
        self._system: list[Message] = [{"role": "system", "content": system}] if system else []
        if not tokenizer.chat_template:
            raise self._unusable("the tokenizer has no chat template", "use a chat model, or save one with it")
        specials = {i: str(token.content) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        longest_first = sorted(specials.values(), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._openings: dict[Key, Shape | None] = {}
        self._suffixes: dict[Key, Shape | None] = {}
        self._head: list[Message] = [*self._system, {"role": "user", "content": "hello"}]
        self.lead, rest = self._after_action([{"role": "user", "content": "hello"}])
        self.end_id = self._first_special(rest, specials)  # the token with which the model ends its turn
        self.end = rest[: rest.index(specials[self.end_id]) + len(specials[self.end_id])]  # the text through that token
        self.suffix([{"role": "user", "content": "hello"}], is_ended=False)  # finds out whether it is append-only

    def opening(self, messages: Sequence[Message]) -> str:
        """Return the first prompt for these messages, up to where the model starts to write."""
        return self._text([*self._system, *messages], self._openings, self._learn_opening, self._generate_after)

    def suffix(self, messages: Sequence[Message], *, is_ended: bool) -> str:
        """Return what follows an action: the end of the turn unless it `is_ended`, the messages, the next prompt."""
        text = self._text(messages, self._suffixes, self._learn_suffix, lambda new: self._after_action(new)[1])
        return text[len(self.end) :] if is_ended and text.startswith(self.end) else text

    def _first_special(self, text: str, specials: Mapping[int, str]) -> int:
        for token_id in self._tokenizer.encode(text, add_special_tokens=False):
            if token_id in specials:
                return token_id
        problem = "its chat template ends an assistant message without a special token"
        raise self._unusable(problem, "use a model whose template ends each turn with one")

    def _text(
        self,
        messages: Sequence[Message],
        known: dict[Key, Shape | None],
        learn: Callable[[Sequence[Message]], Shape | None],
        render: Callable[[Sequence[Message]], str],
    ) -> str:
        contents = [self._defused(str(message["content"])) for message in messages]
        key = _key(messages)
        if key not in known:
            if len(known) >= MAX_SHAPES:
                known.clear()
            known[key] = learn(messages)
        shape = known[key]
        if shape is None or not all(contents):
            return render([{**message, "content": text} for message, text in zip(messages, contents, strict=True)])
        return shape.fill(contents)

    def _learn_opening(self, messages: Sequence[Message]) -> Shape | None:
        probes = _probes(messages)
        return _cut(self._generate_after(probes), probes)

    def _learn_suffix(self, messages: Sequence[Message]) -> Shape | None:
        """Learn one shape, having checked that a second exchange leaves the first as it was."""
        probes = _probes(messages)
        lead, rest = self._after_action(probes)
        first, second = _assistant(f"{_MARK} A"), _assistant(f"{_MARK} B")
        once = self._generate_after([*self._head, first, *probes])
        twice = self._generate_after([*self._head, first, *probes, second, *probes])
        if lead != self.lead or twice != f"{once}{lead}{second['content']}{rest}":
            raise self._not_append_only()
        return _cut(rest, probes)

    def _after_action(self, messages: Sequence[Message]) -> tuple[str, str]:
        """Return what the template puts before an action (beyond the generation prompt) and after it."""
        action = _assistant(f"{_MARK} A")
        before = self._generate_after(self._head)
        text = self._generate_after([*self._head, action, *messages])
        lead, mark, rest = text[len(before) :].partition(action["content"])
        if not text.startswith(before) or not mark or lead.strip():
            raise self._not_append_only()
        return lead, rest

    def _generate_after(self, messages: Sequence[Message]) -> str:
        kwargs: dict[str, Any] = {"tools": self._tools, "add_generation_prompt": True, "tokenize": False}
        try:
            return str(self._tokenizer.apply_chat_template(list(messages), **kwargs))
        except Exception as error:  # the template is the model's own program
            roles = ", ".join(str(message["role"]) for message in messages)
            problem = f"its chat template cannot render the roles {roles} ({error})"
            raise self._unusable(problem, "use a model whose template knows these roles") from error

    def _defused(self, text: str) -> str:
        """Return the text with special tokens spelt so that an observation cannot forge a turn."""
        return self._specials.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _not_append_only(self) -> UserError:
        problem = "its chat template changes earlier messages when later ones are added, so tokens cannot be kept"
        return self._unusable(problem, "use a model whose template only appends, or change its chat_template")

    def _unusable(self, problem: str, remedy: str) -> UserError:
        return UserError("model.path", getattr(self._tokenizer, "name_or_path", ""), problem, remedy)


def _key(messages: Sequence[Message]) -> Key:
    """Return what the text around the contents depends on: roles and all other fields."""
    return tuple((message["role"], () if len(message) == 2 else _others(message)) for message in messages)


def _others(message: Message) -> tuple[tuple[str, Any], ...]:
    return tuple((name, repr(value)) for name, value in sorted(message.items()) if name not in ("role", "content"))


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def _probes(messages: Sequence[Message]) -> list[Message]:
    """Return messages of the same shape whose contents show what the template does to them."""
    return [{**message, "content": f"\t \n{_MARK} {i} \"'<&é\\\n \t"} for i, message in enumerate(messages)]


def _cut(text: str, probes: Sequence[Message]) -> Shape | None:
    """Return the text around the probes; None if the template did more than trim one of them."""
    pieces, trims = [], []
    for probe in probes:
        trim = next((trim for trim in _TRIMS if text.count(trim(probe["content"])) == 1), None)
        if trim is None:
            return None
        piece, _, text = text.partition(trim(probe["content"]))
        pieces.append(piece)
        trims.append(trim)
    return Shape((*pieces, text), tuple(trims))
