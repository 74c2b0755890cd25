"""Replies as OpenAI's chat completions spell them: whole, and as the events of a stream.

A stream begins once the whole reply is there: only then it is known which part of it is a call.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from turnwise.gateway.asked import Asked
from turnwise.gateway.session import Reply

CHUNK = 64
"""Characters of one streamed piece of text."""


def whole(reply: Reply, asked: Asked, model: str) -> dict[str, Any]:
    """Return the body of an answer."""
    choice = {
        "index": 0,
        "message": {**reply.message, "refusal": None},
        "finish_reason": reply.finish,
        "logprobs": _logprobs(reply) if asked.wants_logprobs else None,
    }
    return {**_head("chat.completion", model), "choices": [choice], "usage": _usage(reply)}


def events(reply: Reply, asked: Asked, model: str) -> Iterator[bytes]:
    """Yield the events of a stream, its end included."""
    head = _head("chat.completion.chunk", model)
    deltas = [{"role": "assistant", "content": ""}, *_deltas(reply.message)]
    for number, delta in enumerate(deltas):
        chunk: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
        if asked.wants_logprobs and number == 0:
            chunk["logprobs"] = _logprobs(reply)
        yield _event({**head, "choices": [chunk]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish, "logprobs": None}]})
    if asked.streams_usage:
        yield _event({**head, "choices": [], "usage": _usage(reply)})
    yield b"data: [DONE]\n\n"


def models(model: str) -> dict[str, Any]:
    """Return the list of the one model there is."""
    return {"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "turnwise"}]}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    content = message["content"] or ""
    for start in range(0, len(content), CHUNK):
        yield {"content": content[start : start + CHUNK]}
    for place, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        yield {"tool_calls": [{"index": place, **call, "function": {**call["function"], "arguments": ""}}]}
        for start in range(0, len(arguments), CHUNK):
            yield {"tool_calls": [{"index": place, "function": {"arguments": arguments[start : start + CHUNK]}}]}


def _logprobs(reply: Reply) -> dict[str, Any]:
    pairs = zip(reply.texts, reply.completion.logprobs.tolist(), strict=True)
    content = [
        {"token": text, "logprob": value, "bytes": list(text.encode()), "top_logprobs": []} for text, value in pairs
    ]
    return {"content": content, "refusal": None}


def _usage(reply: Reply) -> dict[str, int]:
    prompt, completion = reply.num_prompt_tokens, len(reply.completion.ids)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
