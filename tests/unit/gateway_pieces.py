"""What the gateway's tests share: the shipped model on the real engine, and a policy that says what it is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import openai
from agent_templates import TEMPLATES, tokenizer_with
from rollout_pieces import completion
from transformers import AutoTokenizer

from turnwise.engine import Request
from turnwise.engine.client import LocalEngineClient
from turnwise.engine.hf import HfConfig, HfEngine
from turnwise.gateway.server import Server
from turnwise.gateway.session import Limits, Sample, Session
from turnwise_agents import TINY_MODEL
from turnwise_agents.program import ProgramAgent, ProgramConfig

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}


def tiny_engine() -> HfEngine:
    return HfEngine(HfConfig(slots=4, max_context=256), TINY_MODEL)


def agent(template: str | None = None, **options: Any) -> ProgramAgent:
    """The agent of the shipped model, or of a tokenizer with one of the templates of these tests."""
    given = {"command": ["true"], "format": "compact", "max_context": 200, "max_action_tokens": 16} | options
    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL) if template is None else tokenizer_with(TEMPLATES[template])
    return ProgramAgent(ProgramConfig(**given), tokenizer)


def sampler(engine: HfEngine, name: str = "s", temperature: float = 1.0) -> Sample:
    """Draws from an engine, as an episode does; belongs to the running event loop."""
    client = LocalEngineClient(engine)

    async def sample(context_ids: Any, max_tokens: int, number: int) -> Any:
        request = Request(
            session=name, context_ids=context_ids, max_tokens=max_tokens, temperature=temperature, seed=number
        )
        return await client.generate(request, 20.0)

    return sample


def script(*words: Any, template: str = "chatml") -> tuple[Sample, list[np.ndarray]]:
    """Says the words one after the other (the last one again and again), and remembers the contexts."""
    tokenizer, seen = tokenizer_with(TEMPLATES[template]), []

    async def sample(context_ids: Any, max_tokens: int, number: int) -> Any:
        seen.append(context_ids)
        word = words[min(len(seen), len(words)) - 1]
        if isinstance(word, Exception):
            raise word
        if callable(word):
            return await word()
        return completion(tokenizer.encode(f"{word}<|im_end|>", add_special_tokens=False))

    return sample, seen


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Server, Callable[..., Any]]]:
    """A server, and what opens a session in it: returns an `openai` client and the session."""
    server, clients = Server(), []

    async def opened(session: Session) -> openai.AsyncOpenAI:
        secret = await server.open(session)
        clients.append(openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0))
        return clients[-1]

    try:
        yield server, opened
    finally:
        for client in clients:
            await client.close()
        await server.close()


def session(sample: Sample, template: str | None = None, *, limits: Limits | None = None, **options: Any) -> Session:
    play = options.pop("play", None)
    return Session(agent(template, **options), sample, limits or Limits(), play=play)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
