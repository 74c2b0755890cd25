"""Demonstrations: episodes that show what to do, as chat messages; recorded as somebody plays.

The warm start and `turnwise env demonstrate` call `record`, in which an environment plays by itself; `env play` keeps a
`Recorder` while a person does. Recording runs the environment in the caller's thread; who needs an end to its
patience draws from `record` through `turnwise.deadline`. Files of demonstrations: `demonstration_files.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from turnwise.env.base import TurnEnv
from turnwise.errors import BoundaryError, UserError
from turnwise.records import Message, Task
from turnwise.tasks import world_of

MAX_TURNS = 1000
"""An episode that its environment does not end is cut off here."""

SEED_OFFSET = 7_919
"""Added to a seed where tasks are drawn: where seeds make tasks, demonstrations are of others than training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """One recorded episode; not always a good one."""

    task: Task
    tools: Sequence[dict[str, Any]]  # JSON schemas that the actions may call
    messages: Sequence[Message]  # [system,] observations and assistant messages in order
    outcome: float  # sum of the episode's rewards on channel "outcome"


class NoDemonstrator(UserError):  # noqa: N818 - like its base it is what the user reads
    """A task that the environment's own demonstrator does not even begin."""


class Recorder:
    """Writes one episode down while it is played."""

    def __init__(self, world: TurnEnv, task: Task, shown: Sequence[Message]) -> None:
        """`shown` is what `reset` returned."""
        self.num_actions, self.outcome = 0, 0.0
        self._task = task
        self._tools = list(world.tools)  # those that the policy is shown, whatever comes later
        self._messages = [*_system(world), *shown]

    def add(self, action: str, shown: Sequence[Message], info: Mapping[str, Any]) -> None:
        """Add an action and what `step` returned."""
        self.num_actions += 1
        self._messages += [{"role": "assistant", "content": action}, *shown]
        self.outcome += sum(event.value for event in info["events"] if event.channel == "outcome")

    def demonstration(self) -> Demonstration:
        """Return the episode so far."""
        return Demonstration(
            task=self._task, tools=self._tools, messages=list(self._messages), outcome=float(self.outcome)
        )


def record(
    env: gymnasium.Env[Any, Any],
    tasks: Iterable[Task],
    seed: int,
    on_failure: Callable[[BoundaryError | NoDemonstrator], Any] | None = None,
) -> Iterator[Demonstration]:
    """Play each task with the environment's own `demonstrate`; equal seeds give equal demonstrations.

    An episode that fails, or that has no demonstrator, is left out and told to `on_failure`; without it, or if that
    raises, the error is raised.
    """
    for number, task in enumerate(tasks):
        try:
            yield record_one(env, task, np.random.default_rng([seed, number]))
        except (BoundaryError, NoDemonstrator) as error:
            if on_failure is None:
                raise
            on_failure(error)


def record_one(env: gymnasium.Env[Any, Any], task: Task, rng: np.random.Generator) -> Demonstration:
    """Play one task until it is over or the demonstrator gives up; NoDemonstrator if it does so at once."""
    world = world_of(env)
    shown, _ = env.reset(seed=task.seed, options=reset_options(task, int(rng.integers(2**31))))
    recorder = Recorder(world, task, shown)
    for turn in range(MAX_TURNS):
        action = world.demonstrate(rng)
        if action is None and turn == 0:
            raise no_demonstrator(task.env_id)
        if action is None:
            break
        shown, _, terminated, truncated, info = env.step(action)
        recorder.add(action, shown, info)
        if terminated or truncated:
            break
    return recorder.demonstration()


def no_demonstrator(env_id: str) -> NoDemonstrator:
    """Return the error of an environment without demonstrations of its own."""
    remedy = "write some with `turnwise env play --record FILE` and give sft.files=[FILE]"
    return NoDemonstrator("env.id", env_id, "the environment has no demonstrations", remedy)


def reset_options(task: Task, episode_seed: int) -> dict[str, Any]:
    """Return the options with which an episode of a task begins."""
    return {"task_id": task.task_id, "split": task.split, "episode_seed": episode_seed, **task.data}


def _system(world: TurnEnv) -> list[Message]:
    return [{"role": "system", "content": world.instructions}] if world.instructions else []
