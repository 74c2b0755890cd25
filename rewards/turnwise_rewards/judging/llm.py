"""The judge `llm`: a model behind any OpenAI-compatible endpoint (a vLLM server, a hosted API).

It asks in one form (`prompt`), for a reply by JSON schema, checks that reply against the schema, and asks again or
gives up with a JudgeError; it never guesses a verdict. Equal questions are asked once, also at the same time and across
runs (`cache_path`). `check` says before a run whether the endpoint is there and knows the model.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from turnwise.config import key
from turnwise.errors import JudgeError, UserError
from turnwise.served import check_served
from turnwise_rewards.judging import Question, Reply
from turnwise_rewards.judging.cache import Cache
from turnwise_rewards.judging.endpoint import Limits, Said, Usage, request
from turnwise_rewards.judging.guards import Guarded
from turnwise_rewards.judging.prompt import Prompt, prompt_of, shown
from turnwise_rewards.judging.schemas import check_fits
from turnwise_rewards.judging.votes import agreed

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"
"""What an endpoint without authentication is sent."""


@dataclass
class LlmConfig:
    """Options of the judge `llm`."""

    model: str = key("", "the model's name at the endpoint")
    base_url: str = key("http://127.0.0.1:8000/v1", "the endpoint, up to and with its version")
    key_env: str = key("", "the environment variable that holds the API key; empty: the endpoint needs none")
    temperature: float = key(0.0, "of sampling; above 0 with several votes", at_least=0, at_most=2)
    seed: int = key(0, "of sampling; vote i uses seed + i", at_least=0)
    votes: int = key(1, "replies to each question, of which the majority (the median) counts", at_least=1, at_most=99)
    structured: str = key(
        "json_schema",
        "how the form of the reply is asked for: by schema, as any JSON object, or in the prompt alone",
        one_of=("json_schema", "json_object", "prompt"),
    )
    max_tokens: int = key(512, "tokens of a reply", at_least=1)
    max_chars: int = key(20_000, "characters of each quoted text that the model sees", at_least=1)
    max_answer_chars: int = key(1000, "a longer answer is judged wrong, unless a right one is as long", at_least=1)
    timeout_s: float = key(60.0, "of one request", above=0)
    attempts: int = key(4, "times that a request is tried", at_least=1)
    backoff_s: float = key(0.5, "pause before the second attempt; it doubles each time", at_least=0)
    max_backoff_s: float = key(20.0, "longest pause, also of those that the endpoint asks for", at_least=0)
    concurrency: int = key(32, "requests at once", at_least=1)
    cache_size: int = key(10_000, "replies kept in memory", at_least=0)
    cache_path: str = key("", "an SQLite file of replies that later runs use too; empty: none")
    price_in: float = key(0.0, "price of a million prompt tokens", at_least=0)
    price_out: float = key(0.0, "price of a million reply tokens", at_least=0)


class Model:
    """The model itself, without guards."""

    kinds = None

    def __init__(self, config: LlmConfig) -> None:
        """Take the options; UserError."""
        _check_options(config)
        import openai  # noqa: F401 - takes a second or two, which no event loop should pay later

        self.config = config
        self._key = os.environ[config.key_env] if config.key_env else NO_KEY
        self._cache = Cache(config.cache_size, config.cache_path)
        self._usage = Usage()
        self._num_questions = self._num_cached = 0
        self._limits = Limits(
            timeout_s=config.timeout_s,
            attempts=config.attempts,
            backoff_s=config.backoff_s,
            max_backoff_s=config.max_backoff_s,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: AsyncOpenAI | None = None
        self._is_free = asyncio.Semaphore(config.concurrency)
        self._pending: dict[str, asyncio.Future[Reply]] = {}

    async def ask(self, question: Question) -> Reply:
        """Return the reply, from the cache if the question was answered before; JudgeError."""
        self._num_questions += 1
        self._begin()
        prompt = prompt_of(question, self.config.max_chars)
        content = self._content_key(question, prompt)
        if (kept := self._cache.get(content)) is not None:
            self._num_cached += 1
            return Reply(**kept)
        if content in self._pending:
            self._num_cached += 1
            return _free(await asyncio.shield(self._pending[content]))
        return await self._ask_once(content, question, prompt)

    async def ask_anew(self, question: Question) -> Reply:
        """Return a reply that is in no cache; JudgeError."""
        self._num_questions += 1
        self._begin()
        return await self._voted(question, prompt_of(question, self.config.max_chars))

    def check(self) -> None:
        """UserError unless the endpoint is there and knows the model, within seconds."""
        config = self.config
        check_served(config.model, config.base_url, key_env=config.key_env, api_key=self._key)

    def usage(self) -> dict[str, Any]:
        """Return counts, tokens and cost as plain JSON."""
        counts = asdict(self._usage) | {"models": sorted(self._usage.models)}
        cost = self._cost(self._usage.prompt_tokens, self._usage.reply_tokens)
        shared = {"questions": self._num_questions, "cached": self._num_cached, "cost": cost}
        return shared | counts | {"cache_errors": self._cache.num_errors}

    async def close(self) -> None:
        """Close connections and the cache's file."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.close()
        self._client = self._loop = None
        self._cache.close()

    def _begin(self) -> None:
        """Connect in this event loop; connections of another loop are of no use here."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            from openai import AsyncOpenAI

            self._loop, self._pending = loop, {}
            self._is_free = asyncio.Semaphore(self.config.concurrency)
            self._client = AsyncOpenAI(
                base_url=self.config.base_url, api_key=self._key, max_retries=0, timeout=self.config.timeout_s
            )

    async def _ask_once(self, content: str, question: Question, prompt: Prompt) -> Reply:
        """Ask, let those who ask the same meanwhile wait for it, and keep the reply."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[content] = waiting
        try:
            reply = await self._voted(question, prompt)
        except BaseException as error:
            cause = error if isinstance(error, JudgeError) else JudgeError(f"the question was given up: {error!r}")
            waiting.set_exception(cause)
            waiting.exception()  # seen, even if nobody waits
            raise
        finally:
            del self._pending[content]
        waiting.set_result(reply)
        self._cache.put(content, asdict(_free(reply)))
        return reply

    async def _voted(self, question: Question, prompt: Prompt) -> Reply:
        num_votes = 1 if question.kind == "write_rubric" else self.config.votes
        tasks = [asyncio.ensure_future(self._vote(question, prompt, number)) for number in range(num_votes)]
        try:
            said = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        together = agreed([one.value for one in said], prompt.schema)
        spent = Usage()
        for one in said:
            spent.add(one.usage)
        return Reply(
            value=together.value,
            judge=_shown_name(self.config.model, spent.models),
            prompt_hash=prompt.hash,
            agreement=together.agreement,
            num_prompt_tokens=spent.prompt_tokens,
            num_reply_tokens=spent.reply_tokens,
            cost=self._cost(spent.prompt_tokens, spent.reply_tokens),
        )

    async def _vote(self, question: Question, prompt: Prompt, number: int) -> Said:
        assert self._client is not None
        async with self._is_free:
            check = partial(check_fits, question)
            body = partial(self._body, prompt, number)
            is_lenient = self.config.structured != "json_schema"
            return await request(self._client, body, check, is_lenient, self._limits, self._usage)

    def _body(self, prompt: Prompt, number: int, attempt: int) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": list(prompt.messages),
            "temperature": config.temperature,
            "seed": config.seed + number + attempt * config.votes,  # the same seed would say the same nonsense again
            "max_tokens": config.max_tokens,
        }
        if config.structured == "json_schema":
            schema = {"name": "reply", "strict": True, "schema": prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif config.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _content_key(self, question: Question, prompt: Prompt) -> str:
        """Return the key of a question: model and its options, template, and all that is shown; not the fence."""
        config = self.config
        options = [config.base_url, config.model, config.temperature, config.seed, config.votes, config.structured]
        data = [shown(question.known, None), shown(question.quoted, config.max_chars)]
        text = json.dumps([*options, config.max_tokens, prompt.hash, *data], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _cost(self, num_in: int, num_out: int) -> float:
        return (num_in * self.config.price_in + num_out * self.config.price_out) / 1e6


class LlmJudge(Guarded):
    """The judge `llm` as it is registered: the model behind the guards."""

    Config: ClassVar[type] = LlmConfig

    def __init__(self, config: LlmConfig) -> None:
        """Take the options; UserError."""
        self.model = Model(config)
        super().__init__(self.model, max_answer_chars=config.max_answer_chars)

    def check(self) -> None:
        """UserError unless the endpoint is there and knows the model."""
        self.model.check()

    def usage(self) -> dict[str, Any]:
        """Return counts, tokens and cost as plain JSON."""
        return self.model.usage()

    def metrics(self) -> dict[str, float]:
        """Return the guards' decisions and the model's counts."""
        counts = {f"judge/{name}": float(value) for name, value in self.usage().items() if name != "models"}
        return super().metrics() | counts


def _check_options(config: LlmConfig) -> None:
    if not config.model:
        raise UserError(
            "model", config.model, "the judge llm needs a model's name", "give the name that its endpoint serves"
        )
    if not config.base_url.startswith(("http://", "https://")):
        raise UserError("base_url", config.base_url, "no address", "write http://host:port/v1")
    if config.key_env and not os.environ.get(config.key_env):
        remedy = "set it, or leave key_env empty for an endpoint without keys"
        raise UserError("key_env", config.key_env, "the environment variable is not set", remedy)
    if config.votes > 1 and config.temperature == 0:
        raise UserError("votes", config.votes, "votes at temperature 0 are all the same", "set temperature above 0")
    if config.votes % 2 == 0:
        raise UserError("votes", config.votes, "an even number of votes ties", "take an odd number")


def _free(reply: Reply) -> Reply:
    """Return a reply that was paid for before."""
    fields: Mapping[str, Any] = asdict(reply)
    return Reply(**{**fields, "num_prompt_tokens": 0, "num_reply_tokens": 0, "cost": 0.0})


def _shown_name(asked: str, answered: set[str]) -> str:
    """Return the model's name, and under which others it answered (a dated version, say)."""
    others = sorted(name for name in answered if name not in ("", asked))
    return f"{asked} ({', '.join(others)})" if others else asked
