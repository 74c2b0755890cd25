"""`turnwise/GymText-v0`: any Gymnasium environment with discrete actions and observations, unchanged, as text.

Observations read `state 14` (or, for tuples, `state 14 10 0`); an action is one word, a name or a number. The wrapped
environment's rewards go to the channel `outcome`, its own ends and its `TimeLimit` come out as they are; a word that is
no action gives -1 on the channel `format`. Episodes of a task share the initial state; their luck differs if `options`
has an `episode_seed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from turnwise.env import TurnEnv
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise.tasks import find_spec

_MAX_TURNS = 100  # where neither the user nor the environment sets a limit
_MAX_NAMED = 12  # so many actions are listed one by one in texts


class GymTextEnv(TurnEnv):
    """Play a discrete environment by words."""

    def __init__(
        self,
        *,
        id: str = "FrozenLake-v1",
        kwargs: Mapping[str, Any] | None = None,
        action_names: Sequence[str] | None = None,
        observation_names: Sequence[str] | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment `id` with `kwargs`; UserError if it cannot be made or is not discrete.

        `action_names`: a word for each action, in order. `observation_names`: a word for each number of an observation,
        written before it. `max_turns`: malformed actions, which the environment does not see, count too; by default the
        environment's own limit on steps, or 100.
        """
        self._id = id
        self._wrapped = _make(id, dict(kwargs or {}))
        self._actions = _read_actions(id, self._wrapped.action_space, action_names)
        self._words = list({number: word for word, number in self._actions.items()}.values())
        self._names = _read_names(id, self._wrapped.observation_space, observation_names)
        self.max_turns = max_turns or _step_limit(self._wrapped)
        self.sample_actions = list(self._actions)
        self.instructions = f"You act in {id}. Each message shows the state; answer with one word: {self._choices}."
        super().__init__(render_mode)
        self._observation: tuple[int, ...] = ()

    def begin(self, options: Mapping[str, Any]) -> str:
        """Reset the wrapped environment with the task's seed, then give it the episode's own luck."""
        observation, _ = self._wrapped.reset(seed=self.task_seed)
        if options.get("episode_seed") is not None:
            self._wrapped.unwrapped.np_random = seeding.np_random(int(options["episode_seed"]))[0]
        return self._show(observation)

    def act(self, action: Message) -> str:
        """Step the wrapped environment; InvalidAction, without a step, for a word that is no action."""
        word = str(action["content"]).strip()
        number = self._actions.get(word.lower())
        if number is None:
            shown = f"unknown action {word.split()[0][:40]}; " if word else ""
            raise InvalidAction(f"{shown}expected one of {self._choices}")
        observation, reward, terminated, truncated, _ = self._wrapped.step(number)
        self.reward("outcome", float(reward))
        if terminated:
            self.finish()
        if truncated:
            self.truncate()
        return self._show(observation)

    def on_invalid(self, error: InvalidAction) -> None:
        """A word that is no action costs 1 on the channel `format`."""
        self.reward("format", -1.0)

    def state_key(self) -> str:
        """Return a digest of the observation."""
        return blake2b(repr(self._observation).encode(), digest_size=8).hexdigest()

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return a random action."""
        return self._words[rng.integers(len(self._words))]

    def close(self) -> None:
        """Close the wrapped environment."""
        self._wrapped.close()

    def _show(self, observation: Any) -> str:
        self._observation = tuple(_flatten(observation))
        if not self._names:
            return " ".join(["state", *map(str, self._observation)])
        return " ".join(f"{name} {number}" for name, number in zip(self._names, self._observation, strict=True))

    @property
    def _choices(self) -> str:
        words = self._words  # one an action: its name if it has one
        return ", ".join(words) if len(words) <= _MAX_NAMED else f"{words[0]}, {words[1]}, ... {words[-1]}"


def _make(id: str, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    spec = find_spec(id, "env.kwargs.id")
    try:
        return gymnasium.make(spec, **kwargs)
    except (TypeError, ValueError, LookupError, ImportError, gymnasium.error.Error) as error:
        raise UserError(
            "env.kwargs.kwargs", kwargs, f"{id} cannot be made ({error})", "correct the arguments"
        ) from error


def _step_limit(wrapped: gymnasium.Env[Any, Any]) -> int:
    limit = None if wrapped.spec is None else wrapped.spec.max_episode_steps
    return limit or _MAX_TURNS


def _read_actions(id: str, space: spaces.Space[Any], names: Sequence[str] | None) -> dict[str, int]:
    """Return the action that each word stands for: its number and then, if given, its name."""
    if not isinstance(space, spaces.Discrete):
        remedy = "choose an environment with a Discrete action space"
        raise UserError("env.kwargs.id", id, f"action space {space} is not supported", remedy)
    numbers = range(int(space.start), int(space.start + space.n))
    words = [str(name).lower() for name in names or ()]
    if names is not None and not len(set(words)) == len(words) == len(numbers):
        remedy = f"give {len(numbers)} different words"
        raise UserError("env.kwargs.action_names", list(names), "not a word for each action", remedy)
    if any(len(word.split()) != 1 for word in words):
        raise UserError("env.kwargs.action_names", list(names or ()), "a name is one word", "leave out the spaces")
    return {str(number): number for number in numbers} | dict(zip(words, numbers, strict=False))


def _read_names(id: str, space: spaces.Space[Any], names: Sequence[str] | None) -> tuple[str, ...]:
    count = _num_numbers(space)
    if count is None:
        remedy = "choose an environment with Discrete, MultiDiscrete or MultiBinary observations, or tuples of them"
        raise UserError("env.kwargs.id", id, f"observation space {space} is not supported", remedy)
    if names is not None and len(names) != count:
        problem = "not a word for each number of an observation"
        raise UserError("env.kwargs.observation_names", list(names), problem, f"give {count} words")
    return tuple(map(str, names or ()))


def _num_numbers(space: spaces.Space[Any]) -> int | None:
    """Return how many numbers an observation has; None for a space that is not discrete."""
    if isinstance(space, spaces.Discrete):
        return 1
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return int(np.prod(space.shape))
    if isinstance(space, spaces.Tuple):
        counts = [_num_numbers(part) for part in space.spaces]
        return None if None in counts else sum(count for count in counts if count is not None)
    return None


def _flatten(observation: Any) -> Iterator[int]:
    """Yield the numbers of an observation in order."""
    if isinstance(observation, tuple | list):
        for part in observation:
            yield from _flatten(part)
    else:
        yield from (int(number) for number in np.asarray(observation).reshape(-1))
