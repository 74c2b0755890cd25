"""What an environment must keep to, as code: `validate` tries it and returns a list of checks.

`turnwise env validate`, the tests of every environment here, and the test that `turnwise env init` writes call it. Each
reset and step runs in a thread with a limit, so that an environment that hangs fails a check and nothing more.
It does not promise that a task can be solved, nor that rewards mean anything. A bad environment never makes it raise.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from turnwise.env.base import TurnEnv
from turnwise.env.probe import Broken, Probe, Step
from turnwise.errors import TurnwiseError
from turnwise.records import Event

DEFAULT_LIMIT_S = 10.0
NUM_ACTIONS = 200  # random actions after which an episode should be over

MALFORMED: tuple[Any, ...] = (
    "",
    " \n\t ",
    "no_such_tool at all",
    "x" * 100_000,
    "\x00\x01\x7f \u202e \U0001f600 \u0301",
    "half a surrogate \ud800",
    "{",
    '{"name": "no_such_tool", "arguments": {}}',
    '<tool_call>{"name": "no_such_tool", "arguments": {}}</tool_call>',
    "<tool_call>{</tool_call>",
    '<tool_call>{"name": 7, "arguments": []}</tool_call>',
    "<tool_call>" + "[" * 20_000 + "</tool_call>",
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "no_such_tool"}}]},
    {"role": "assistant", "content": "", "tool_calls": 7},
    {"role": "assistant", "content": "", "tool_calls": [None]},
)
"""Actions that a policy may write; an environment that cannot carry one out answers with an error observation."""

SOME_GUIDANCE = "look again"  # given to `reset` where an environment has none of its own

NO_ACTIONS: tuple[Any, ...] = (None, 7, b"bytes", [], ["yes"], {}, {"role": "assistant"}, {"role": 1, "content": "yes"})
"""What is no action at all; `info["is_valid"]` must say so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One promise, tried."""

    name: str
    passed: bool
    detail: str  # why it failed; for a passed one a note ("warning: ..." where somebody should look), or nothing
    seconds: float


def validate(
    env_id: str,
    kwargs: Mapping[str, Any] | None = None,
    *,
    limit_s: float = DEFAULT_LIMIT_S,
    num_actions: int = NUM_ACTIONS,
    seed: int = 7,
) -> list[Check]:
    """Try every promise on a registered environment; `limit_s` bounds each of its calls. Never raises for a bad one."""
    trial = _Trial(env_id, dict(kwargs or {}), limit_s, num_actions, seed)
    first = _run(trial, "check_make")
    return [first, *(_run(trial, name) for name in _CHECKS if first.passed)]


def _run(trial: _Trial, name: str) -> Check:
    attempt: Callable[[], str] = getattr(trial, name)
    started = time.perf_counter()
    try:
        passed, detail = True, attempt()
    except Exception as error:  # noqa: BLE001  (whatever an environment does is a finding)
        shown = str(error) if isinstance(error, Broken | TurnwiseError) else f"{type(error).__name__}: {error}"
        passed, detail = False, " ".join(shown.split())[:500]
    trial.stop_all()
    shown_name = name.removeprefix("check_").replace("_", " ")
    return Check(name=shown_name, passed=passed, detail=detail, seconds=time.perf_counter() - started)


_CHECKS = (
    "check_gymnasium_api",
    "check_messages",
    "check_events",
    "check_determinism",
    "check_seeds",
    "check_malformed_actions",
    "check_reset_in_the_middle",
    "check_step_after_the_end",
    "check_reset_after_close",
    "check_optional_methods",
    "check_guidance",
    "check_episode_length",
)


class _Trial:
    """The checks on one environment; each makes its own instances, and returns a note or raises."""

    def __init__(self, env_id: str, kwargs: Mapping[str, Any], limit_s: float, num_actions: int, seed: int) -> None:
        self._env_id, self._kwargs = env_id, kwargs
        self._limit_s, self._num_actions, self._seed = limit_s, num_actions, seed
        self._probes: list[Probe] = []

    def check_make(self) -> str:
        env = self._make()
        env.close()
        return type(env.world).__name__

    def check_gymnasium_api(self) -> str:
        """Gymnasium's own checker, without its tries of render modes that need a display."""
        env = self._make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env.call("check_env", lambda: check_env(env.world, skip_render_check=True), calls=20)
        return ""

    def check_messages(self) -> str:
        env = self._make()
        for step in self._play(env):
            _check_messages(step.observation, env.world)
        return ""

    def check_events(self) -> str:
        env = self._make()
        channels = {event.channel for step in self._play(env) for event in _check_events(step)}
        return f"channels: {', '.join(sorted(channels))}" if channels else "warning: no rewards in a whole episode"

    def check_determinism(self) -> str:
        first = list(self._play(self._make()))
        again = self._make()
        for number, (step, answer) in enumerate(zip(first, again.replay(self._seed, first), strict=True)):
            what = step.difference(answer)
            if what:
                raise Broken(f"same seed, same actions: {what} differs after {number} actions")
        return ""

    def check_seeds(self) -> str:
        env = self._make()
        shown = [json.dumps(env.reset(self._seed + i).observation, default=str) for i in range(8)]
        return "" if len(set(shown)) > 1 else "note: 8 seeds begin alike"

    def check_malformed_actions(self) -> str:
        env = self._make()
        env.reset(self._seed)
        for action in (*MALFORMED, *NO_ACTIONS):
            shown = repr(action)[:60]
            step = env.step(action, f"action {shown}")
            _check_messages(step.observation, env.world, f"action {shown}: ")
            _check_events(step, f"action {shown}: ")
            if any(action is item for item in NO_ACTIONS) and step.info["is_valid"]:
                raise Broken(f'action {shown}: info["is_valid"] is true for what is no action')
            if step.is_over:
                env.reset(self._seed)
        return ""

    def check_reset_in_the_middle(self) -> str:
        env = self._make()
        first = env.reset(self._seed)
        env.step(env.choose(np.random.default_rng(self._seed)))
        what = first.difference(env.reset(self._seed))
        if what:
            raise Broken(f"a reset in the middle of an episode: {what} differs from the first reset with that seed")
        return ""

    def check_step_after_the_end(self) -> str:
        env = self._make()
        last = [*self._play(env)][-1]
        if not last.is_over:
            return f"warning: not tried, since no episode ended within {self._num_actions} actions"
        step = env.step(last.action, "an action after the end")
        _check_messages(step.observation, env.world, "after the end: ")
        if not step.is_over or step.reward != 0 or step.info["events"]:
            raise Broken("an action after the end must leave the episode over and be worth nothing")
        return ""

    def check_reset_after_close(self) -> str:
        env = self._make()
        first = env.reset(self._seed)
        env.close()
        env.close()
        try:
            again = env.reset(self._seed)
        except (TurnwiseError, gymnasium.error.Error) as error:
            return f"note: a closed one is not reset ({error})"
        if first.difference(again):
            raise Broken("a reset after close begins otherwise than before")
        return ""

    def check_optional_methods(self) -> str:
        env = self._make()
        env.reset(self._seed)
        rng = np.random.default_rng(self._seed)
        _check_tools(env.world)
        before = env.world.state_key()
        _check_optional(env, rng)
        if env.world.state_key() != before:
            raise Broken("oracle or demonstrate changed the state")
        demonstrated = env.call("demonstrate", lambda: env.world.demonstrate(rng))
        if demonstrated is None:
            return "note: no demonstrations, so no warm start without a file of them"
        if not env.step(demonstrated).info["is_valid"]:
            raise Broken(f"the demonstrated action {demonstrated[:80]!r} is not valid")
        return ""

    def check_guidance(self) -> str:
        env = self._make()
        steps = list(self._play(env))
        guidance = env.call("guide", env.world.guide)
        is_text = isinstance(guidance, str) and env.world.observation_space.contains(guidance)
        if guidance is not None and not is_text:
            raise Broken(f"guide returns a text or None, not {str(guidance)[:80]!r}")
        again = env.reset(self._seed, guidance=guidance or SOME_GUIDANCE)
        _check_messages(again.observation, env.world, "with guidance: ")
        if steps[0].info["state_key"] != again.info["state_key"]:
            raise Broken("with guidance the same task begins in another state")
        if (guidance or SOME_GUIDANCE).strip() not in again.observation[-1]["content"]:
            raise Broken("the first observation does not show the guidance that reset was given")
        return ""

    def check_episode_length(self) -> str:
        env = self._make()
        rng = np.random.default_rng(self._seed)
        env.reset(self._seed)
        for number in range(1, self._num_actions + 1):
            if env.step(env.world.sample_actions[int(rng.integers(len(env.world.sample_actions)))]).is_over:
                return f"over after {number} random actions"
        return f"warning: not over after {self._num_actions} random actions; set max_turns"

    def stop_all(self) -> None:
        """End the threads of the check that has just been made."""
        while self._probes:
            self._probes.pop().stop()

    def _make(self) -> Probe:
        self._probes.append(Probe(self._env_id, self._kwargs, self._limit_s))
        return self._probes[-1]

    def _play(self, env: Probe) -> Iterator[Step]:
        """Yield the reset and the steps of one episode under demonstrated or else sampled actions."""
        rng = np.random.default_rng(self._seed)
        step = env.reset(self._seed)
        yield step
        for _ in range(self._num_actions):
            step = env.step(env.choose(rng))
            yield step
            if step.is_over:
                return


def _check_messages(observation: Any, world: TurnEnv, where: str = "") -> None:
    if not isinstance(observation, list) or not world.observation_space.contains(observation):
        raise Broken(f"{where}the observation {str(observation)[:80]!r} is not in the observation space")
    if not observation:
        raise Broken(f"{where}the observation has no message")
    json.dumps(observation)


def _check_events(step: Step, where: str = "") -> Sequence[Event]:
    """Return the events of a step after checking that they are well formed and add up to its reward."""
    events: Sequence[Event] = step.info.get("events", ())
    for event in events:
        if not isinstance(event, Event) or not isinstance(event.channel, str) or not math.isfinite(event.value):
            raise Broken(f"{where}{event!r} is not an event with a channel and a finite value")
    total = sum(event.value for event in events)
    if not math.isfinite(step.reward) or abs(total - step.reward) > 1e-6:
        raise Broken(f"{where}the reward {step.reward} is not the sum of the events, {total}")
    return events


def _check_tools(world: TurnEnv) -> None:
    for schema in world.tools:
        function = schema.get("function", {}) if isinstance(schema, dict) else {}
        shape = function.get("parameters", {})
        if not isinstance(function.get("name"), str) or shape.get("type") != "object" or "properties" not in shape:
            raise Broken(f"{str(schema)[:80]!r} is not a tool schema")
    json.dumps(world.tools)


def _check_optional(env: Probe, rng: np.random.Generator) -> None:
    world = env.world
    for key in (world.state_key(), world.belief_key(), world.demonstrate(rng)):
        if key is not None and not isinstance(key, str):
            raise Broken(f"state_key, belief_key and demonstrate return a text or None, not {key!r}")
    for action in (*world.sample_actions, "no_such_tool at all", ""):
        value = env.call("oracle", partial(world.oracle, action))
        if value is not None and not -1 <= value <= 1:
            raise Broken(f"oracle({action!r}) is {value}, not in [-1, 1]")
    for split in ("train", "eval"):
        count = world.num_tasks(split)
        if count is not None and count < 0:
            raise Broken(f"num_tasks({split!r}) is {count}")
    json.dumps(world.gold())
