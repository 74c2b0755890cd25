"""What the tests of Tool-v0 share: an environment at a task of a wanted kind, and one who plays it without mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnwise.tasks import make_env
from turnwise_envs.tool.env import ServiceEnv
from turnwise_envs.tool.task import Task

PERFECT = {"wrong_value": 0, "unasked": 0, "early_answer": 0, "wrong_answer": 0}


@dataclass
class Said:
    """What came of one action."""

    text: str
    events: dict[str, float]
    is_over: bool
    info: dict[str, Any]


def make(**kwargs: Any) -> ServiceEnv:
    env = make_env("turnwise/Tool-v0", {"mistakes": PERFECT, **kwargs}).unwrapped
    assert isinstance(env, ServiceEnv)
    return env


def task_of(env: ServiceEnv) -> Task:
    return env._plan.task


def start(wanted: Callable[[Task], Any] = bool, split: str = "train", **kwargs: Any) -> ServiceEnv:
    """Return an environment at the first task that is wanted."""
    env = make(**kwargs)
    for seed in range(400):
        env.reset(seed=seed, options={"split": split})
        if wanted(task_of(env)):
            return env
    raise AssertionError("no such task")


def act(env: ServiceEnv, action: Any) -> Said:
    messages, reward, terminated, truncated, info = env.step(action)
    events: dict[str, float] = {}
    for event in info["events"]:
        events[event.channel] = events.get(event.channel, 0.0) + event.value
    assert abs(reward - sum(events.values())) < 1e-9
    return Said(str(messages[0]["content"]), events, terminated or truncated, info)


def play(env: ServiceEnv, rng: np.random.Generator | None = None) -> list[tuple[str, Said]]:
    """Follow the demonstrator to the end."""
    rng, steps = rng or np.random.default_rng(0), []
    while not steps or not steps[-1][1].is_over:
        action = env.demonstrate(rng)
        steps.append((action, act(env, action)))
    return steps
