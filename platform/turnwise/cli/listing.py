"""The table of `turnwise env list`: what there is of environments, how long they are, and what they need.

An environment is made without arguments and played for a few actions, so that the sizes of its observations are
measured ones. Where that cannot be done its row says why.
"""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from turnwise.env.base import TurnEnv
from turnwise.errors import UserError
from turnwise.records import Message
from turnwise.registry import GROUP, load_plugins
from turnwise.tasks import make_env, world_of

MAX_NAMED = 6
"""Tools that a row names."""

NUM_ACTIONS = 5
"""Sample actions that are tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One row."""

    id: str
    tools: str = ""  # names, or in brackets why nothing else is known
    turns: str = ""
    tasks: str = ""
    observation: str = ""  # characters: of the first one, and the median of later ones
    licence: str = ""
    needs: str = ""


def known_environments() -> list[EnvSpec]:
    """Return what Turnwise and the plug-ins registered, by id; Gymnasium's own take `turnwise/GymText-v0`."""
    load_plugins()
    packages = {
        entry.value.partition(":")[0].partition(".")[0] for entry in importlib.metadata.entry_points(group=GROUP)
    }
    specs = (spec for spec in gymnasium.registry.values() if _package(spec) in packages)
    return sorted((spec for spec in specs if _is_turn_env(spec)), key=lambda spec: spec.id)


def listed(spec: EnvSpec) -> Listed:
    """Return the row of an environment; it is made, played for `NUM_ACTIONS` and closed."""
    declared = _creator(spec)
    said = {name: getattr(declared, name, "") or "-" for name in ("licence", "needs")}
    try:
        env = make_env(spec.id)
    except Exception as error:  # noqa: BLE001  (a plug-in's constructor may raise anything: its row says so)
        return Listed(id=spec.id, tools=f"({_problem(error)})", **said)
    world = world_of(env)
    try:
        observation = _observed(env, world.sample_actions)
    except Exception as error:  # noqa: BLE001  (and so may its reset)
        observation = f"({_problem(error)})"
    tools = _named([schema["function"]["name"] for schema in world.tools])
    counts = [world.num_tasks(split) for split in ("train", "eval")]
    tasks = "by seed" if None in counts else " + ".join(map(str, counts))
    env.close()
    turns = str(world.max_turns or "no limit")
    return Listed(id=spec.id, tools=tools, turns=turns, tasks=tasks, observation=observation, **said)


def _observed(env: gymnasium.Env[Any, Any], actions: Sequence[str]) -> str:
    """Return how many characters an episode's first observation has, and the median of later ones."""
    messages, _ = env.reset(seed=0)
    first, later = _size(messages), []
    for action in actions[:NUM_ACTIONS]:
        messages, _, terminated, truncated, _ = env.step(action)
        later.append(_size(messages))
        if terminated or truncated:
            break
    return f"{first}, {round(statistics.median(later))}" if later else str(first)


def _named(tools: Sequence[str]) -> str:
    """Return the names of some tools, and how many others there are."""
    rest = f" and {len(tools) - MAX_NAMED} more" if len(tools) > MAX_NAMED else ""
    return f"{', '.join(tools[:MAX_NAMED])}{rest}" or "-"


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message["content"]) for message in messages)


def _problem(error: Exception) -> str:
    return error.problem if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _creator(spec: EnvSpec) -> Any:
    """Return what makes an environment; None if it cannot be imported."""
    try:
        return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except (ImportError, AttributeError):
        return None


def _package(spec: EnvSpec) -> str:
    entry_point = spec.entry_point
    module = (
        entry_point.partition(":")[0] if isinstance(entry_point, str) else str(getattr(entry_point, "__module__", ""))
    )
    return module.partition(".")[0]


def _is_turn_env(spec: EnvSpec) -> bool:
    """Whether it is one of ours; one that cannot be imported may be, and its row will say why not."""
    creator = _creator(spec)
    return creator is None or (isinstance(creator, type) and issubclass(creator, TurnEnv))
