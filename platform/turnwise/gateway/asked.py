"""What a chat-completions request asks for, once it has been looked at; what is not understood is refused.

How tokens are drawn is the run's affair: `temperature`, `top_p` and `seed` have no effect. What has one value here
(`n`, penalties, ...) may be given with that value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnwise.env.calls import call_of
from turnwise.errors import InvalidAction
from turnwise.gateway.refusal import Refused
from turnwise.records import Message

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

MAX_STOPS = 4

_ONE_VALUE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
_NO_EFFECT = (
    *("temperature", "top_p", "seed", "parallel_tool_calls"),
    *("model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request."""

    messages: tuple[Message, ...]  # role and content, both texts; of an assistant perhaps `tool_calls`
    tools: tuple[dict[str, Any], ...]  # JSON schemas; none where they may not be called
    max_tokens: int | None  # None: as many as an action may have
    stop: tuple[str, ...]
    wants_logprobs: bool
    streams: bool
    streams_usage: bool


def read(body: Any) -> Asked:
    """Return what the body of a request asks for; Refused."""
    if not isinstance(body, dict):
        raise Refused("the body is no JSON object")
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise Refused("the body holds what is no character, or is too deep") from None
    given = {name: value for name, value in body.items() if value is not None and name not in _NO_EFFECT}
    for name, values in _ONE_VALUE.items():
        if given.pop(name, values[0]) not in values:
            raise Refused(f"{name} may only be {json.dumps(values[0])} here", param=name, code="unsupported_value")
    take = _Taker(given)
    limits = [
        take(name, None, _is_count, "a whole number from 1 on") for name in ("max_tokens", "max_completion_tokens")
    ]
    tools = take("tools", [], _are_tools, "a list of functions with a name and parameters")
    streams = take("stream", False, _is_truth, "true or false")
    stop = take("stop", [], _are_stops, f"a text, or a list of up to {MAX_STOPS}")
    asked = Asked(
        messages=tuple(_message(place, message) for place, message in enumerate(_messages(given))),
        tools=tuple(tools) if _may_call(take) else (),
        max_tokens=min((limit for limit in limits if limit is not None), default=None),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        wants_logprobs=take("logprobs", False, _is_truth, "true or false"),
        streams=streams,
        streams_usage=bool(
            take("stream_options", {}, lambda value: isinstance(value, dict), "an object").get("include_usage")
        ),
    )
    for name in given:
        raise Refused(f"{name[:40]} is not supported here", param=name[:40], code="unsupported_parameter")
    return asked


class _Taker:
    """Takes parameters out of a request, so that what is left is what nobody understands."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    def __call__(self, name: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self._given.pop(name, default)
        if value is not default and not fits(value):
            raise Refused(f"{name} must be {expected}", param=name, code="invalid_value")
        return value


def _may_call(take: _Taker) -> bool:
    choice = take("tool_choice", "auto", lambda value: value in ("auto", "none"), "auto or none: no call can be forced")
    return bool(choice == "auto")


def _messages(given: dict[str, Any]) -> list[Any]:
    messages = given.pop("messages", None)
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list of at least one", param="messages")
    return messages


def _message(place: int, message: Any) -> Message:
    """Return a message with what the policy sees of it."""
    where = f"messages.{place}"
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise Refused(f"{where}.role must be one of {', '.join(ROLES)}", param=f"{where}.role")
    read: Message = {"role": ROLES[message["role"]], "content": _text(message.get("content"), where)}
    calls = message.get("tool_calls")
    if read["role"] == "assistant" and calls:
        read["tool_calls"] = _calls(calls, where)
    return read


def _text(content: Any, where: str) -> str:
    """Return a content, which may be given in parts, as one text."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": "" if content is None else content}]
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(f"{where}.content must be text", param=f"{where}.content")
    return "".join(texts)  # type: ignore[arg-type]


def _calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """Return an assistant's calls with their arguments as objects; ids are left out: the policy never sees them."""
    try:
        return [call_of({"tool_calls": [call]}, ()).as_openai() for call in calls]
    except (TypeError, InvalidAction):
        problem = f"{where}.tool_calls must be functions with a name and arguments as JSON text"
        raise Refused(problem, param=f"{where}.tool_calls") from None


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_stops(value: Any) -> bool:
    texts = [value] if isinstance(value, str) else value
    return isinstance(texts, list) and len(texts) <= MAX_STOPS and all(isinstance(text, str) and text for text in texts)


def _are_tools(value: Any) -> bool:
    return isinstance(value, list) and all(_is_tool(each) for each in value)


def _is_tool(value: Any) -> bool:
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return False
    parameters = function.setdefault("parameters", {})
    return isinstance(parameters, dict) and isinstance(parameters.setdefault("properties", {}), dict)
