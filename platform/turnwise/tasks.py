"""Where tasks and environments come from: `TaskSet` numbers the tasks of a split, `make_env` builds the world.

The controller, the evaluation and the warm start ask a `TaskSet`; rollout workers and the command line call `make_env`.
It does not promise that two seeds differ in content: that is the environment's affair.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from turnwise.env.base import TurnEnv
from turnwise.errors import UserError
from turnwise.records import Task
from turnwise.registry import load_plugins, suggestion

SPLITS = ("train", "eval")

_NUM_TRAIN_SEEDS = 2**30
"""Seeds of training tasks are below, those of held-out tasks are even numbers from here on, all below 2**31."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSet:
    """The tasks of one split, by number: the same numbers give the same tasks, in every process.

    Without `num_tasks` a task is a seed: in training a different one for each number (up to 2**30), in another order
    for each `seed`; held-out seeds do not depend on `seed` and never occur in training. With `num_tasks`, numbers run
    through all tasks epoch by epoch, in training in a fresh order each time.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"  # "train" or "eval"
    seed: int = 0  # the run's
    num_tasks: int | None = None  # tasks of a finite split; None: one for each seed

    def __post_init__(self) -> None:
        """Check the split and that there is a task at all."""
        check_split(self.split)
        if self.num_tasks is not None and self.num_tasks < 1:
            raise UserError("env.id", self.env_id, f"empty task set: no {self.split} tasks", self._remedy)

    @classmethod
    def of(cls, env_id: str, env_kwargs: Mapping[str, Any], split: str, seed: int) -> TaskSet:
        """Return the tasks of an environment, which is made once to ask how many there are."""
        env = make_env(env_id, env_kwargs)
        try:
            num_tasks = world_of(env).num_tasks(split)
        finally:
            env.close()
        return cls(env_id=env_id, env_kwargs=env_kwargs, split=split, seed=seed, num_tasks=num_tasks)

    def task(self, index: int) -> Task:
        """Return task number `index`, from 0 on."""
        if index < 0:
            raise ValueError(f"task number {index} is negative")
        seed = self._endless_seed(index) if self.num_tasks is None else self._finite_seed(index, self.num_tasks)
        return Task(env_id=self.env_id, task_id=str(seed), seed=seed, split=self.split)

    def _endless_seed(self, index: int) -> int:
        if self.split == "eval":
            return _NUM_TRAIN_SEEDS + 2 * (index % (_NUM_TRAIN_SEEDS // 2))
        factor, offset = _mix(self.seed)
        return (index * factor + offset) % _NUM_TRAIN_SEEDS

    def _finite_seed(self, index: int, num_tasks: int) -> int:
        epoch, place = divmod(index, num_tasks)
        return place if self.split == "eval" else int(_order(self.seed, epoch, num_tasks)[place])

    @property
    def _remedy(self) -> str:
        if self.split == "eval":
            return "give the environment held-out tasks, or set eval.tasks=0"
        return "give the environment training tasks"


def check_split(split: str) -> str:
    """Return the name of a split; UserError for any other."""
    if split not in SPLITS:
        raise UserError("split", split, "no such split", suggestion(split, list(SPLITS)))
    return split


@lru_cache(maxsize=16)
def _mix(seed: int) -> tuple[int, int]:
    """Return an odd factor and an offset: multiplying by an odd number permutes the numbers below a power of two."""
    factor, offset = np.random.SeedSequence(abs(seed)).generate_state(2)
    return int(factor) | 1, int(offset)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, num_tasks: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng([abs(seed), epoch]).permutation(num_tasks)


def make_env(env_id: str, kwargs: Mapping[str, Any] | None = None) -> gymnasium.Env[Any, Any]:
    """Build a registered environment, its wrappers included; UserError for an unknown id or unfit arguments.

    `package:Name-v0` imports the package first. Arguments of any name work, `id` too, which `gymnasium.make` would
    take for its own. The innermost environment is a `TurnEnv`: `world_of` returns it.
    """
    given = dict(kwargs or {})
    spec = copy.copy(find_spec(env_id))
    spec.kwargs = {**spec.kwargs, **given}
    try:
        _check_kwargs(spec, given)
        env = gymnasium.make(spec)
    except (TypeError, ValueError, LookupError, ImportError, AttributeError, gymnasium.error.Error) as error:
        raise UserError("env.kwargs", given, f"{env_id} cannot be made ({error})", "correct the arguments") from error
    if not isinstance(env.unwrapped, TurnEnv):
        env.close()
        remedy = f"extend turnwise.TurnEnv, or set env.id=turnwise/GymText-v0 env.kwargs.id={env_id}"
        raise UserError("env.id", env_id, "not an environment of messages", remedy)
    return env


def world_of(env: gymnasium.Env[Any, Any]) -> TurnEnv:
    """Return the `TurnEnv` inside the wrappers that `make_env` keeps."""
    return cast(TurnEnv, env.unwrapped)


def find_spec(env_id: str, field: str = "env.id") -> EnvSpec:
    """Return what is registered with Gymnasium under an id; UserError (naming `field`) if nothing is."""
    load_plugins()
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            problem = f"{module} cannot be imported ({error})"
            raise UserError(field, env_id, problem, "install it or correct its name") from error
    spec = gymnasium.registry.get(name)
    if spec is None:
        near = difflib.get_close_matches(name, gymnasium.registry, n=1, cutoff=0.75)
        remedy = f"did you mean {near[0]}?" if near else "see `turnwise env list`"
        raise UserError(field, env_id, "no such environment", remedy)
    return spec


def _check_kwargs(spec: EnvSpec, given: Mapping[str, Any]) -> None:
    """Refuse arguments that the constructor does not take."""
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    parameters = inspect.signature(cast(Any, creator)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key, value in given.items():
        if key not in parameters:
            remedy = suggestion(key, sorted(parameters))
            raise UserError(f"env.kwargs.{key}", value, f"{spec.id} takes no such argument", remedy)
