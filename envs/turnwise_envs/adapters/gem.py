"""`turnwise/Gem-v0`: the games of the package gem-llm (GEM, "a gym for generalist LLMs"), and any `gem.Env` of yours.

Reward: `outcome`, what the game gives, its sum kept within -1 and 1. A game's random numbers are the process's: here
each episode has its own, from the task's seed. What gem has of reasoning-gym is `turnwise/ReasoningGym-v0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnwise.env import TurnEnv
from turnwise.errors import EnvError, UserError
from turnwise.records import Message
from turnwise_envs.adapters.bounded import Bounded
from turnwise_envs.adapters.chance import Chance
from turnwise_envs.adapters.package import by_name, known, load, made
from turnwise_envs.adapters.reasoning_gym import load_reasoning_gym
from turnwise_envs.arguments import whole

ENV_ID = "turnwise/Gem-v0"
INSTALL = "--no-deps gem-llm==0.1.0"
ELSEWHERE = "rg:"
"""Ids whose questions are 500 fixed ones, in both splits."""


class GemEnv(TurnEnv):
    """Play a game of gem."""

    licence = "Apache-2.0"
    needs = "gem-llm"
    sample_actions = ("\\boxed{1}", "\\boxed{5}", "\\boxed{up}", "\\boxed{1 2}", "hello")

    def __init__(
        self,
        *,
        id: str = "game:GuessTheNumber-v0-easy",
        kwargs: Mapping[str, Any] | None = None,
        max_turns: int = 50,
        render_mode: str | None = None,
    ) -> None:
        """Make the game; UserError for an id or arguments that it does not know.

        `id`: one that gem's registry has. `kwargs`: arguments of the game. `max_turns`: the limit on turns, besides
        the game's own.
        """
        super().__init__(render_mode)
        load_reasoning_gym(ENV_ID)  # which gem imports
        self._gem, given = load(ENV_ID, "gem", INSTALL), by_name("kwargs", kwargs)
        load(ENV_ID, "gem.envs", INSTALL)
        name = known("id", id, tuple(load(ENV_ID, "gem.envs.registration", INSTALL).ENV_REGISTRY))
        if name.startswith(ELSEWHERE):
            remedy = f"take turnwise/ReasoningGym-v0 with dataset={name.removeprefix(ELSEWHERE)}"
            raise UserError("env.kwargs.id", id, "gem has the same questions for training and evaluation", remedy)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self._chance, self._earned = Chance(0), Bounded()
        with self._chance():
            self._game = made("id", name, given, lambda: self._begun(name, given))

    def begin(self, options: Mapping[str, Any]) -> str:
        """Reset the game with the task's seed."""
        self._chance, self._earned = Chance(self.task_seed), Bounded()
        with self._chance():
            observation, info = self._game.reset(seed=self.task_seed)
        return _shown(observation, info)

    def act(self, action: Message) -> str:
        """Give the game what was said."""
        with self._chance():
            observation, reward, terminated, truncated, info = self._game.step(str(action["content"]))
        self.reward("outcome", self._earned.add(reward))
        if terminated:
            self.finish()
        elif truncated:
            self.truncate()
        return _shown(observation, {} if terminated or truncated else info)

    def _begun(self, name: str, given: Mapping[str, Any]) -> Any:
        """Return a game that can be begun."""
        game = self._gem.make(name, **given)
        game.reset(seed=0)
        return game


def _shown(observation: Any, info: Mapping[str, Any]) -> str:
    """Return what the game says, and below it what it asks for."""
    if not isinstance(observation, str):
        raise EnvError(f"the game's observation is {type(observation).__name__}, not a text")
    asked = str(info.get("suffix") or "")
    shown = observation if not asked or asked in observation else f"{observation.rstrip()}\n{asked}"
    return shown.strip() or "over"
