"""A person played by a model behind any OpenAI-compatible endpoint, for environments with a partner or a user.

Used from an environment's own thread, so it blocks; `timeouts.step_s` must leave room for `attempts` requests of
`timeout_s`. An endpoint that is lost is `InfraError`, one that answers nonsense `EnvError`: the episode is tried again
and is never a reward. What the model says is not judged here, and a run with it does not repeat itself exactly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from turnwise.errors import EnvError, InfraError, UserError
from turnwise.records import Message
from turnwise.registry import suggestion
from turnwise.served import check_served

if TYPE_CHECKING:
    from openai import OpenAI


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointOptions:
    """Where the model is and how it is asked."""

    model: str  # its name at the endpoint
    base_url: str = "http://127.0.0.1:8000/v1"  # up to and with the version
    key_env: str = ""  # the environment variable that holds the API key; empty: the endpoint needs none
    temperature: float = 0.7
    max_tokens: int = 128  # of a reply
    timeout_s: float = 20.0  # of one request
    attempts: int = 3  # times that a request is tried


def read_options(given: Any, field: str) -> EndpointOptions:
    """Return the options that a mapping gives; UserError, naming `field`, for one that does not fit."""
    known = {item.name: item for item in fields(EndpointOptions)}
    if not isinstance(given, Mapping) or not given.get("model"):
        raise UserError(field, given, "no model at an endpoint", "give {model: NAME, base_url: http://HOST:PORT/v1}")
    for name, value in given.items():
        if name not in known:
            raise UserError(f"{field}.{name}", value, "no such option", suggestion(str(name), sorted(known)))
        default = known[name].default
        _check(f"{field}.{name}", value, "" if default is MISSING else default)
    options = EndpointOptions(**given)
    if not options.base_url.startswith(("http://", "https://")):
        raise UserError(f"{field}.base_url", options.base_url, "no address", "write http://host:port/v1")
    if options.key_env and not os.environ.get(options.key_env):
        remedy = "set it, or leave key_env empty for an endpoint without keys"
        raise UserError(f"{field}.key_env", options.key_env, "the environment variable is not set", remedy)
    return options


class Endpoint:
    """One model at one endpoint, asked by one thread."""

    def __init__(self, options: EndpointOptions, field: str) -> None:
        """Take the options; `field` is what errors name. Nothing is sent yet."""
        self.options, self._field = options, field
        self._client: OpenAI | None = None

    def check(self) -> None:
        """UserError unless the endpoint is there and knows the model, within seconds."""
        options = self.options
        check_served(
            options.model, options.base_url, key_env=options.key_env, api_key=self._key, field=f"{self._field}."
        )

    def say(self, messages: Sequence[Message]) -> str:
        """Return what the model says next, not empty; InfraError if it cannot be reached, EnvError for nonsense."""
        import openai

        for _ in range(self.options.attempts):
            try:
                text = _text_of(self._ask(messages))
            except openai.APIResponseValidationError:
                continue
            except openai.OpenAIError as error:
                raise InfraError(f"{self._field}: {type(error).__name__}: {str(error)[:200]}") from error
            except (ValueError, RecursionError):  # a body that is no JSON
                continue
            if text:
                return text
        raise EnvError(f"{self._field}: nothing but nonsense in {self.options.attempts} replies of the endpoint")

    def close(self) -> None:
        """Close the connections; they are opened again where need be."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _ask(self, messages: Sequence[Message]) -> Any:
        create: Any = self._connected.chat.completions.create
        options = self.options
        return create(
            model=options.model,
            messages=list(messages),
            temperature=options.temperature,
            max_tokens=options.max_tokens,
        )

    @property
    def _key(self) -> str:
        return os.environ.get(self.options.key_env, "") or "none"

    @property
    def _connected(self) -> OpenAI:
        if self._client is None:
            from openai import OpenAI

            self._client = OpenAI(
                base_url=self.options.base_url,
                api_key=self._key,
                timeout=self.options.timeout_s,
                max_retries=self.options.attempts - 1,
            )
        return self._client


def _check(field: str, value: Any, like: Any) -> None:
    """UserError unless a value has the type of the default; numbers are not negative, whole ones at least 1."""
    if isinstance(like, str):
        fits, remedy = isinstance(value, str), "give a text"
    elif isinstance(like, int):
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        remedy = "give a whole number from 1"
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        fits, remedy = is_number and value >= 0, "give a number from 0"
    if not fits:
        raise UserError(field, value, "does not fit", remedy)


def _text_of(completion: Any) -> str:
    """Return the text of a completion, which may be anything that a server sent; empty if there is none."""
    choices = getattr(completion, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    content = getattr(message, "content", None)
    said = content.rpartition("</think>")[2] if isinstance(content, str) else ""
    return said.encode(errors="ignore").decode().strip()
