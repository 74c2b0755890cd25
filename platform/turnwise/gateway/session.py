"""A program's talk with the policy, and all of them by their secrets. Knows neither HTTP nor engines.

A reply that the program gives back unchanged stands in the next prompt as it was sampled, token by token: the request
goes on with the dialogue that it belongs to. A request that fits none (its history was edited, its tools are others)
begins a new one from its messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from turnwise.agent import Action, Agent, Dialogue
from turnwise.engine import Completion, Finish
from turnwise.errors import UserError
from turnwise.gateway.asked import Asked
from turnwise.gateway.play import Play
from turnwise.gateway.refusal import FULL, SPENT, Refused
from turnwise.gateway.spans import Exchange, turns_of
from turnwise.gateway.stops import cut, texts_of
from turnwise.records import IntArray, Message, Turn

Sample = Callable[[IntArray, int, int], Awaitable[Completion]]
"""Continues a context with at most so many tokens; the last is the reply's number in its session, from 0 on."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one session may use."""

    max_requests: int = 1000  # refused ones included
    max_body: int = 16 * 2**20  # bytes of a request
    idle_s: float = 600.0  # seconds without a request after which whoever started the program gives it up


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a request is answered with."""

    message: dict[str, Any]  # as OpenAI has it, `tool_calls` with ids included
    finish: str  # "stop", "length" or "tool_calls"
    num_prompt_tokens: int
    completion: Completion
    texts: tuple[str, ...]  # [num_tokens] each sampled token as text; none unless they were asked for


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said until a reply, and the dialogue that has it as tokens."""

    words: tuple[str, ...]  # of each message, the reply included
    tools: str
    dialogue: Dialogue


class Session:
    """One program's talk; one request at a time."""

    def __init__(self, agent: Agent, sample: Sample, limits: Limits, *, play: Play | None = None) -> None:
        """`play` is the environment in which the program acts, if there is one."""
        self.limits, self.play = limits, play
        self.exchanges: list[Exchange] = []
        self.error: Exception | None = None  # what failed at the last request: the engine, or we ourselves
        self.refused: Refused | None = None  # why the last request was
        self.is_closed = False
        self._agent, self._sample = agent, sample
        self._said: list[_Said] = []
        self._written: dict[str, str] = {}  # a reply's text as it was sampled, by what the program was given
        self._lock, self._num_requests = asyncio.Lock(), 0
        self._num_uses, self._last = 0, time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since it was last in use."""
        return 0.0 if self._num_uses else time.monotonic() - self._last

    @property
    def is_spent(self) -> bool:
        """Whether it was asked more often than it may be."""
        return self._num_requests > self.limits.max_requests

    def turns(self) -> tuple[Turn, ...]:
        """Return the episode so far, as the learner takes it."""
        play = self.play
        return turns_of(self.exchanges, play.deeds, play.opening.info) if play else turns_of(self.exchanges)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Say that the program waits for an answer."""
        self._num_uses += 1
        try:
            yield
        finally:
            self._num_uses -= 1
            self._last = time.monotonic()

    async def reply(self, asked: Asked) -> Reply:
        """Answer a request and keep it; Refused, or what failed. A cancelled one leaves nothing behind."""
        with self.in_use():
            async with self._lock:
                self._num_requests += 1
                try:
                    self._check()
                    reply = await self._reply(asked)
                except Refused as refused:
                    self.refused = refused
                    raise
                except Exception as error:
                    self.error = error
                    raise
                self.refused = self.error = None
                return reply

    def _check(self) -> None:
        if self.is_closed or (self.play is not None and self.play.is_over):
            raise Refused("the episode is over", status=403, code="episode_over")
        if self.is_spent:
            raise Refused(f"the session has had its {self.limits.max_requests} requests", status=403, code=SPENT)

    async def _reply(self, asked: Asked) -> Reply:
        words, tools = tuple(_words(message) for message in asked.messages), json.dumps(asked.tools, sort_keys=True)
        dialogue, new = self._dialogue(asked, words, tools)
        context_ids = self._context(dialogue)
        limit = min(self._agent.max_action_tokens, asked.max_tokens or self._agent.max_action_tokens)
        started = time.perf_counter()
        completion = await self._sample(context_ids, limit, len(self.exchanges))
        seconds = time.perf_counter() - started
        completion, stop = cut(dialogue, completion, asked.stop)
        texts = texts_of(dialogue, completion.ids) if asked.wants_logprobs else ()
        action = dialogue.act(completion.ids)
        message = _message(action, stop)
        read = "\n".join(str(each["content"]) for each in new)
        self.exchanges.append(
            Exchange(context_ids=context_ids, completion=completion, read=read, wrote=action.text, seconds=seconds)
        )
        said = _words(message)
        self._written[said] = action.text
        self._said.append(_Said((*words, said), tools, dialogue))
        finish = "length" if completion.finish is Finish.LENGTH else "stop"
        return Reply(
            message=message,
            finish="tool_calls" if "tool_calls" in message else finish,
            num_prompt_tokens=len(context_ids),
            completion=completion,
            texts=texts,
        )

    def _dialogue(self, asked: Asked, words: tuple[str, ...], tools: str) -> tuple[Dialogue, Sequence[Message]]:
        """Return a dialogue that has seen all messages, and those that it had not seen before."""
        try:
            if (said := self._before(asked, words, tools)) is not None:
                dialogue, new = said.dialogue.fork(), asked.messages[len(said.words) :]
                dialogue.observe(new)
                return dialogue, new
            messages = [self._as_written(message, said) for message, said in zip(asked.messages, words, strict=True)]
            return self._agent.begin(instructions="", tools=asked.tools, observation=messages), messages
        except UserError as error:  # the model's chat template cannot render it
            raise Refused(f"messages: {error.problem}", param="messages") from None

    def _before(self, asked: Asked, words: tuple[str, ...], tools: str) -> _Said | None:
        """Return the latest of the longest talks that the request goes on with; None if it goes on with none."""
        fitting = [
            said
            for said in reversed(self._said)
            if said.tools == tools
            and said.words == words[: len(said.words)] != words
            and all(message["role"] != "assistant" for message in asked.messages[len(said.words) :])
        ]
        return max(fitting, key=lambda said: len(said.words), default=None)

    def _as_written(self, message: Message, said: str) -> Message:
        """Return a message; one of our replies as the policy wrote it, calls and thoughts included."""
        if message["role"] == "assistant" and said in self._written:
            return {"role": "assistant", "content": self._written[said]}
        return message

    def _context(self, dialogue: Dialogue) -> IntArray:
        if dialogue.is_full:
            room = self._agent.max_context - self._agent.max_action_tokens
            problem = f"the messages have {dialogue.num_context_tokens} tokens, and {room} leave room for a reply"
            raise Refused(problem, param="messages", code=FULL)
        return dialogue.prompt().context_ids


class Sessions:
    """All sessions of one door, by their secrets."""

    def __init__(self) -> None:
        """Nobody is known yet."""
        self._open: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, session: Session) -> str:
        """Return the secret under which a session is found from now on."""
        secret = f"sk-{secrets.token_urlsafe(24)}"
        self._open[_digest(secret)] = session
        return secret

    def of(self, authorization: str) -> Session:
        """Return the session whose secret stands in a header `Bearer SECRET`; Refused."""
        scheme, _, secret = authorization.partition(" ")
        session = self._open.get(_digest(secret.strip())) if scheme.lower() == "bearer" else None
        if session is None:
            raise Refused("no session has this key, or it has ended", status=401, code="invalid_api_key")
        return session

    def close(self, secret: str) -> None:
        """Forget a session, if it is there; what waits in it is refused."""
        if (session := self._open.pop(_digest(secret), None)) is not None:
            session.is_closed = True


def _digest(secret: str) -> bytes:
    """Return what is looked up in place of a secret, so that the time it takes tells nothing about one."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _words(message: Message) -> str:
    """Return what a message says, equal for a reply and what a program makes of it that is the same to the policy."""
    calls = [
        {**call["function"], "arguments": _arguments(call["function"]["arguments"])}
        for call in message.get("tool_calls", ())
    ]
    content = message["content"] or ""
    said = content.strip() if message["role"] == "assistant" else content
    return json.dumps([message["role"], said, calls], sort_keys=True)


def _arguments(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _message(action: Action, stop: str | None) -> dict[str, Any]:
    """Return an action as the assistant message of a reply; calls get ids, and arguments that are JSON text."""
    content = str(action.message["content"] or "")
    message: dict[str, Any] = {"role": "assistant", "content": content.partition(stop)[0] if stop else content}
    if calls := action.message.get("tool_calls"):
        functions = [{**each["function"], "arguments": json.dumps(each["function"]["arguments"])} for each in calls]
        message["tool_calls"] = [
            {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function} for function in functions
        ]
        message["content"] = message["content"] or None
    return message
