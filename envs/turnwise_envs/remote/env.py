"""`turnwise/Remote-v0`: an environment that `turnwise env serve` serves, as if it were here.

Observations, rewards, infos, keys, tools, oracle, demonstrations and guidance are those of the environment there, and
so are its failures; a server that is gone is a failure of the infrastructure. One session an environment.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from turnwise.env import TurnEnv
from turnwise.env.bearer import TOKEN, read_token
from turnwise.env.wire import read_info
from turnwise.errors import EnvError, TurnwiseError, UserError
from turnwise.records import Message
from turnwise_envs.arguments import number
from turnwise_envs.remote.caller import Caller, SessionOver, Unreached


class RemoteEnv(TurnEnv):
    """Passes everything on."""

    needs = "turnwise env serve, elsewhere"

    def __init__(
        self,
        *,
        url: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        token_env: str = TOKEN,
        token_file: str | None = None,
        timeout_s: float = 150.0,
        render_mode: str | None = None,
    ) -> None:
        """Begin a session; UserError for an address, a token or arguments that do not fit.

        `url`: as the server says it. `kwargs`: arguments of the environment there, which the server must allow.
        `token_env`, `token_file`: the variable, or the file, with the token. `timeout_s`: seconds for an answer.
        """
        if not isinstance(kwargs, Mapping | None):
            raise UserError("env.kwargs.kwargs", kwargs, "no arguments by name", "give a mapping")
        self._kwargs = dict(kwargs or {})
        self._caller = Caller(url, number("timeout_s", timeout_s, 0.01, 86400))
        self._caller.carry(read_token(token_env, token_file))
        self._session: str | None = None
        self._tools: list[dict[str, Any]] = []
        self._told: Mapping[str, Any] = {}
        self._gold: dict[str, Any] | None = None
        try:
            opened = self._open()
        except Unreached as error:
            remedy = "start `turnwise env serve` there, or correct the address"
            raise UserError("env.kwargs.url", url, f"nobody answers there ({error})", remedy) from error
        self.sample_actions = tuple(opened["sample_actions"])
        self.max_turns = opened["max_turns"]
        self._num_tasks = opened["num_tasks"]
        super().__init__(render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[list[Message], dict[str, Any]]:
        """Start an episode there; in another session where this one is over."""
        gymnasium.Env.reset(self, seed=seed)
        given = {"seed": seed, "options": options or {}}
        try:
            answer = self._ask("reset", given)
        except SessionOver:
            self._session = None
            answer = self._ask("reset", given)
        except Unreached:  # a connection that was ended meanwhile, perhaps
            answer = self._ask("reset", given)
        self._show(answer)
        self._seed, self._gold = answer["task_seed"], answer["info"].get("gold")
        return self._last, dict(self._told)

    def step(self, action: Any) -> tuple[list[Message], float, bool, bool, dict[str, Any]]:
        """Carry out an action there; what cannot be sent is no action there either."""
        try:
            json.dumps(action)
        except (TypeError, ValueError, RecursionError):
            action = None
        answer = self._ask("step", {"action": action})
        self._last, self._told = answer["messages"], read_info(answer["info"])
        return self._last, answer["reward"], answer["terminated"], answer["truncated"], dict(self._told)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools there."""
        return self._tools

    def num_tasks(self, split: str) -> int | None:
        """Return the number of tasks there."""
        count: int | None = self._num_tasks.get(split)
        return count

    def state_key(self) -> str | None:
        """Return the key that the last answer had."""
        return self._told.get("state_key")

    def belief_key(self) -> str | None:
        """Return the key that the last answer had."""
        return self._told.get("belief_key")

    def gold(self) -> dict[str, Any] | None:
        """Return what the last reset said of the task."""
        return self._gold

    def oracle(self, action: str) -> float | None:
        """Return what the oracle there says."""
        value: float | None = self._ask("ask", {"what": "oracle", "action": action})["value"]
        return value

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return what the demonstrator there does, with the generator as it is here; it comes back as it is there."""
        if not isinstance(rng.bit_generator, np.random.PCG64):
            raise EnvError("a demonstrator elsewhere takes generators of numpy.random.default_rng alone")
        answer = self._ask("ask", {"what": "demonstrate", "rng": rng.bit_generator.state})
        rng.bit_generator.state = answer["rng"]
        text: str | None = answer["value"]
        return text

    def guide(self) -> str | None:
        """Return the guidance there."""
        text: str | None = self._ask("ask", {"what": "guide"})["value"]
        return text

    def close(self) -> None:
        """End the session; a reset begins another. A server that is gone has none to end."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(TurnwiseError):
                self._caller.ask("close", {"session": session})
        self._caller.close()

    def _open(self) -> dict[str, Any]:
        """Begin a session."""
        opened = self._caller.ask("open", {"kwargs": self._kwargs})
        self._session = opened["session"]
        self._show(opened)
        return opened

    def _ask(self, verb: str, given: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is None:
            self._open()
        return self._caller.ask(verb, {"session": self._session, **given})

    def _show(self, answer: Mapping[str, Any]) -> None:
        """Take over what the environment shows of itself, and of an episode that has begun."""
        self.instructions, self._tools = answer["instructions"], answer["tools"]
        self.sandbox_tier = answer["sandbox_tier"]
        if "messages" in answer:
            self._last, self._told = answer["messages"], read_info(answer["info"])
