"""One environment under time limits: each call runs in a thread of its own, and what comes back is checked for shape.

`conformance` drives it. A call that does not come back in time is `Broken`, and its thread is left behind.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from turnwise.env.base import TurnEnv
from turnwise.tasks import make_env, world_of


class Broken(Exception):  # noqa: N818  (a finding about an environment, not an error of ours)
    """A promise that the environment did not keep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a reset (without action) or a step returned, its shape checked."""

    action: Any
    observation: Any
    info: Mapping[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the episode ended with it."""
        return self.terminated or self.truncated

    def difference(self, other: Step) -> str:
        """Return the name of the first field that differs; empty if none does."""
        names = ("observation", "reward", "terminated", "truncated", "info")
        differing = (
            name for name in names if not data_equivalence(getattr(self, name), getattr(other, name), exact=True)
        )
        return next(differing, "")


class Probe:
    """An environment under time limits."""

    def __init__(self, env_id: str, kwargs: Mapping[str, Any], limit_s: float) -> None:
        """Make the environment; UserError as from `make_env`, Broken if it takes too long."""
        self._limit_s = limit_s
        self._thread = _Thread()
        try:
            self.env: gymnasium.Env[Any, Any] = self.call("make", lambda: make_env(env_id, kwargs))
        except Exception:
            self._thread.stop()
            raise

    @property
    def world(self) -> TurnEnv:
        """The environment without its wrappers."""
        return world_of(self.env)

    def call(self, what: str, function: Callable[[], Any], calls: int = 1) -> Any:
        """Run a function that calls the environment so many times; Broken if it does not come back in time."""
        return self._thread.call(what, function, self._limit_s * calls)

    def reset(self, seed: int, **more: Any) -> Step:
        """Start an episode, with `more` among its options; Broken if that raises or returns another shape."""
        options = {"split": "train", "task_id": str(seed), "episode_seed": seed, **more}
        returned = self.call("reset", lambda: self.env.reset(seed=seed, options=dict(options)))
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
            raise Broken("reset must return (observation, info)")
        return Step(action=None, observation=returned[0], info=returned[1])

    def step(self, action: Any, what: str = "step") -> Step:
        """Take a step; Broken (naming it as `what`) if that raises or returns another shape."""
        try:
            returned = self.call(what, lambda: self.env.step(action))
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{what} raised {type(error).__name__}: {error}") from error
        if not isinstance(returned, tuple) or len(returned) != 5 or not isinstance(returned[4], dict):
            raise Broken(f"{what} must return (observation, reward, terminated, truncated, info)")
        if not isinstance(returned[4].get("is_valid"), bool) or "events" not in returned[4]:
            raise Broken(f'{what}: info must have "events" and "is_valid"')
        observation, reward, terminated, truncated, info = returned
        return Step(
            action=action,
            observation=observation,
            reward=reward,
            terminated=bool(terminated),
            truncated=bool(truncated),
            info=info,
        )

    def choose(self, rng: np.random.Generator) -> Any:
        """Return a demonstrated action, or a sampled one where there are no demonstrations (or now and then)."""
        demonstrated = self.call("demonstrate", lambda: self.world.demonstrate(rng))
        if demonstrated is None or rng.random() < 0.1:
            return self.world.sample_actions[int(rng.integers(len(self.world.sample_actions)))]
        return demonstrated

    def replay(self, seed: int, steps: Sequence[Step]) -> Iterator[Step]:
        """Yield the reset and the answers to the same actions."""
        yield self.reset(seed)
        for step in steps[1:]:
            yield self.step(step.action)

    def close(self) -> None:
        """Close the environment; it may be reset again."""
        self.call("close", self.env.close)

    def stop(self) -> None:
        """End the thread, unless it hangs: then it goes with the process."""
        self._thread.stop()


class _Thread:
    """Runs calls one after the other in one daemon thread: some environments stay in the thread they are made in."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True, name="conformance").start()

    def call(self, what: str, function: Callable[[], Any], limit_s: float) -> Any:
        """Return what the function returns, or raise what it raises; Broken if it takes longer than the limit."""
        self._calls.put(function)
        try:
            value, error = self._answers.get(timeout=limit_s)
        except queue.Empty:
            raise Broken(f"{what} took more than {limit_s:g} s") from None
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        """End after the calls that are under way."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                answer: tuple[Any, BaseException | None] = (function(), None)
            except Exception as error:  # noqa: BLE001  (it is raised again in the calling thread)
                answer = (None, error)
            self._answers.put(answer)
