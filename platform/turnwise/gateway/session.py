"""A program's talk with the policy, and all of them by their secrets. Knows neither HTTP nor engines.

A reply that the program gives back unchanged stands in the next prompt as it was sampled, token by token: the request
goes on with the dialogue that it belongs to. A request that fits none (its history was edited, its tools are others)
begins a new one from its messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from turnwise.agent import Action, Agent, Dialogue
from turnwise.engine import Completion, Finish
from turnwise.errors import BoundaryError, PolicyError, UserError
from turnwise.gateway.asked import Asked
from turnwise.gateway.play import Play
from turnwise.gateway.refusal import Refused
from turnwise.gateway.spans import Exchange, turns_of
from turnwise.gateway.stops import cut, texts_of
from turnwise.records import IntArray, Message, Turn

Sample = Callable[[IntArray, int, float, int], Awaitable[Completion]]
"""Continues a context with at most so many tokens at a temperature; the last is the request's number in its session."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one session may use."""

    max_requests: int = 1000  # requests that are answered
    max_body: int = 16 * 2**20  # bytes of a request
    idle_s: float = 600.0  # seconds without a request after which the session ends


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

    def __init__(
        self,
        agent: Agent,
        sample: Sample,
        limits: Limits,
        *,
        temperature: float | None = None,
        play: Play | None = None,
    ) -> None:
        """`temperature` holds for all requests, whatever they ask for; None: each one's own."""
        self.limits, self.play = limits, play
        self.exchanges: list[Exchange] = []
        self.error: Exception | None = None  # the engine's failure that was answered last, unless a reply followed
        self.was_full = False  # the last request was refused because the context has no more room
        self._agent, self._sample, self._temperature = agent, sample, temperature
        self._said: list[_Said] = []
        self._written: dict[str, str] = {}  # a reply's text as it was sampled, by what the program was given
        self._lock, self._asked, self._last = asyncio.Lock(), 0, time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last request was answered."""
        return 0.0 if self._asked else time.monotonic() - self._last

    @property
    def is_spent(self) -> bool:
        """Whether it has had all of its requests."""
        return len(self.exchanges) >= self.limits.max_requests

    def turns(self) -> tuple[Turn, ...]:
        """Return the episode so far, as the learner takes it."""
        play = self.play
        return turns_of(self.exchanges, play.deeds, play.opening.info) if play else turns_of(self.exchanges)

    async def reply(self, asked: Asked) -> Reply:
        """Answer a request and keep it; Refused, or the engine's failure. A cancelled one leaves nothing behind."""
        self._asked += 1
        try:
            async with self._lock:
                self._check(asked)
                return await self._reply(asked)
        finally:
            self._asked -= 1
            self._last = time.monotonic()

    def touch(self) -> None:
        """Count as used: the program did something else than asking."""
        self._last = time.monotonic()

    def _check(self, asked: Asked) -> None:
        if self.play is not None and self.play.is_over:
            raise Refused("the episode is over", status=403, code="episode_over")
        if self.is_spent:
            raise Refused(f"the session has had its {self.limits.max_requests} requests", status=403, code="requests")
        if self._temperature is None and asked.top_p != 1:
            problem = "top_p may only be 1 here: tokens are drawn from the whole distribution"
            raise Refused(problem, param="top_p", code="unsupported_value")

    async def _reply(self, asked: Asked) -> Reply:
        words, tools = tuple(_words(message) for message in asked.messages), json.dumps(asked.tools, sort_keys=True)
        dialogue, new = self._dialogue(asked, words, tools)
        context_ids = self._context(dialogue)
        limit = min(self._agent.max_action_tokens, asked.max_tokens or self._agent.max_action_tokens)
        temperature = asked.temperature if self._temperature is None else self._temperature
        started = time.perf_counter()
        try:
            completion = await self._sample(context_ids, limit, temperature, len(self.exchanges))
        except BoundaryError as error:
            self.error = error
            raise
        seconds = time.perf_counter() - started
        self.error, self.was_full = None, False
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
        try:
            is_full = dialogue.is_full
            prompt = dialogue.prompt()
        except PolicyError:
            is_full = True
        if is_full:
            self.was_full = True
            room = self._agent.max_context - self._agent.max_action_tokens
            problem = f"the messages have {dialogue.num_context_tokens} tokens, and {room} leave room for a reply"
            raise Refused(problem, param="messages", code="context_length_exceeded")
        return prompt.context_ids


class Sessions:
    """All sessions of one door, by their secrets."""

    def __init__(self) -> None:
        """Nobody is known yet."""
        self._open: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, session: Session) -> str:
        """Return the secret under which a session is found from now on."""
        self._sweep()
        secret = f"sk-{secrets.token_urlsafe(24)}"
        self._open[_digest(secret)] = session
        return secret

    def find(self, secret: str) -> Session | None:
        """Return the session of a secret; None if there is none, or it was idle for too long."""
        self._sweep()
        return self._open.get(_digest(secret))

    def of(self, authorization: str) -> Session:
        """Return the session whose secret stands in a header `Bearer SECRET`; Refused."""
        scheme, _, secret = authorization.partition(" ")
        session = self.find(secret.strip()) if scheme.lower() == "bearer" else None
        if session is None:
            raise Refused("no session has this key, or it has ended", status=401, code="invalid_api_key")
        return session

    def close(self, secret: str) -> None:
        """Forget a session, if it is there."""
        self._open.pop(_digest(secret), None)

    def _sweep(self) -> None:
        self._open = {key: each for key, each in self._open.items() if each.idle_s <= each.limits.idle_s}


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
