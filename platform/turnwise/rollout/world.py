"""`World`: one environment in its own thread, as episodes use it; every answer is checked before anyone sees it.

The rule of blame: whatever an environment raises is `EnvError`, and so is a time-out of its `reset` or `step` and an
answer that the API does not allow. Only an error that already names another culprit (a lost sandbox, say) stays.

Where it is wanted, the environment's oracle is asked about each action right before `step`, in the same thread and
within the same time; its value becomes the turn's event on the channel `oracle`, which the policy never sees.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium
import numpy as np

from turnwise.env.base import as_messages
from turnwise.env.calls import call_of, spell_hermes
from turnwise.errors import BoundaryError, EnvError, InvalidAction
from turnwise.records import ORACLE, Event, Message
from turnwise.rollout.threads import CallThread, CallTimeoutError, LostThreads
from turnwise.tasks import world_of

Value = TypeVar("Value")
Environment = gymnasium.Env[Any, Any]

CLOSE_S = 10.0
"""Seconds that closing an environment may take before its thread counts as lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What a world shows at the start of an episode."""

    messages: list[Message]
    instructions: str
    tools: Sequence[dict[str, Any]]
    sandbox_tier: str  # "none": the environment runs in the worker's own process
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a world answers to an action."""

    messages: list[Message]
    terminated: bool
    truncated: bool
    events: tuple[Event, ...]
    is_valid: bool
    info: Mapping[str, Any]
    seconds: float  # the environment took, without the way there and back


class World:
    """An environment in a thread; made at its first `reset`, used by one episode at a time, good until it fails."""

    def __init__(
        self, name: str, make: Callable[[], Environment], lost: LostThreads, *, asks_oracle: bool = False
    ) -> None:
        """`make` constructs the environment, in the thread and within the first reset's time."""
        self._make, self._asks_oracle = make, asks_oracle
        self._env: Environment | None = None
        self._thread = CallThread(name, lost, at_end=self._close_env)

    async def reset(self, seed: int, options: dict[str, Any], timeout_s: float) -> Opening:
        """Start an episode; EnvError."""
        return await self._call(lambda: self._reset(seed, options), timeout_s)

    async def step(self, action: Message, timeout_s: float) -> Answer:
        """Carry out one assistant message; EnvError."""
        return await self._call(lambda: self._step(action), timeout_s)

    async def guide(self, timeout_s: float) -> str | None:
        """Return the environment's guidance after an episode that failed; None if it has none. EnvError."""
        return await self._call(self._guide, timeout_s)

    async def close(self) -> None:
        """Close the environment and end its thread; never raises. One that hangs meanwhile counts as lost."""
        if self._thread.is_over:
            return
        try:
            await self._thread.call(self._close_env, CLOSE_S)
        except CallTimeoutError:
            return
        self._thread.close()

    async def _call(self, function: Callable[[], Value], timeout_s: float) -> Value:
        try:
            return await self._thread.call(function, timeout_s)
        except BoundaryError:
            raise
        except CallTimeoutError as error:
            raise EnvError(str(error)) from None
        except Exception as error:
            raise EnvError(_named(error)) from error

    def _reset(self, seed: int, options: dict[str, Any]) -> Opening:
        env = self._env = self._env or self._make()
        returned = env.reset(seed=seed, options=options)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
            raise EnvError(f"reset returned {_shown(returned)} instead of (observation, info)")
        return Opening(
            messages=_messages(env, returned[0]),
            instructions=str(_attribute(env, "instructions", "") or ""),
            tools=_attribute(env, "tools", ()),
            sandbox_tier=str(_attribute(env, "sandbox_tier", "none")),
            info=_checked(returned[1]),
        )

    def _step(self, action: Message) -> Answer:
        assert self._env is not None, "step before reset"
        verdict = _ask_oracle(self._env, action) if self._asks_oracle else ()
        started = time.perf_counter()
        returned = self._env.step(action)
        seconds = time.perf_counter() - started
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise EnvError(f"step returned {_shown(returned)} instead of five values")
        observation, reward, terminated, truncated, info = returned
        if not isinstance(info, dict):
            raise EnvError(f"step returned the info {_shown(info)}, which is no dict")
        return Answer(
            messages=_messages(self._env, observation),
            terminated=_flag("terminated", terminated),
            truncated=_flag("truncated", truncated),
            events=_events(_number(reward), info) + verdict,
            is_valid=bool(info.get("is_valid", True)),
            info=_checked(info),
            seconds=seconds,
        )

    def _guide(self) -> str | None:
        assert self._env is not None, "guide before reset"
        guidance = world_of(self._env).guide()
        if guidance is not None and not self._env.observation_space.contains(guidance):
            raise EnvError(f"the guidance {_shown(guidance)} is neither a text nor None")
        return guidance.strip() or None if guidance is not None else None

    def _close_env(self) -> None:
        """Close the environment if there is one; what its closing raises concerns no episode any more."""
        env, self._env = self._env, None
        try:
            if env is not None:
                env.close()
        except Exception:  # noqa: BLE001 - nobody uses the environment after this
            return


def _messages(env: Environment, observation: Any) -> list[Message]:
    space = env.observation_space
    if not space.contains(observation):
        raise EnvError(f"the observation {_shown(observation)} is not in {space}")
    try:
        return as_messages(observation, role="user")
    except (TypeError, ValueError):
        raise EnvError(f"the observation {_shown(observation)} is neither text nor messages") from None


def _ask_oracle(env: Environment, action: Message) -> tuple[Event, ...]:
    """Return the oracle's verdict on an action in the present state; nothing where it has none. EnvError."""
    try:
        value = world_of(env).oracle(_action_text(env, action))
    except BoundaryError:
        raise
    except Exception as error:
        raise EnvError(f"oracle: {_named(error)}") from error
    if value is None:
        return ()
    if not isinstance(value, int | float | np.number) or not -1.0 <= value <= 1.0:
        raise EnvError(f"the oracle's value {_shown(value)} is not a number in [-1, 1]")
    return (Event(channel=ORACLE, value=float(value)),)


def _action_text(env: Environment, action: Message) -> str:
    """Return what the environment is going to carry out: its call if it takes calls, without thoughts around it."""
    if action.get("tool_calls") and _attribute(env, "tools", ()):
        try:
            return spell_hermes(call_of(action, ()))
        except InvalidAction:
            pass  # malformed: the text as it is
    return str(action.get("content", ""))


def _number(reward: Any) -> float:
    if not isinstance(reward, int | float | np.number) or not math.isfinite(reward):
        raise EnvError(f"the reward {_shown(reward)} is not a finite number")
    return float(reward)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise EnvError(f"{name} is {_shown(value)} instead of a truth value")
    return bool(value)


def _events(reward: float, info: Mapping[str, Any]) -> tuple[Event, ...]:
    """Return the turn's events; an environment that has none of its own means its reward as the outcome."""
    if "events" not in info:
        return (Event(channel="outcome", value=reward),) if reward else ()
    events = info["events"]
    if not isinstance(events, tuple | list) or not all(_is_event(event) for event in events):
        raise EnvError(f"the events {_shown(events)} are malformed")
    return tuple(events)


def _is_event(event: Any) -> bool:
    if not isinstance(event, Event) or not isinstance(event.channel, str) or not event.channel:
        return False
    return isinstance(event.value, int | float) and math.isfinite(event.value)


def _checked(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an environment says of a turn besides events, once its shape is that of a `Turn`; EnvError."""
    for name in ("state_key", "belief_key"):
        if not isinstance(info.get(name), str | None):
            raise EnvError(f"the {name} {_shown(info[name])} is neither a text nor None")
    call = info.get("call")
    if call is not None and not _is_call(call):
        raise EnvError(f'the call {_shown(call)} is not {{"name": text, "arguments": mapping}} of plain JSON')
    return info


def _is_call(call: Any) -> bool:
    if not isinstance(call, Mapping) or set(call) != {"name", "arguments"}:
        return False
    if not isinstance(call["name"], str) or not isinstance(call["arguments"], Mapping):
        return False
    try:
        json.dumps(dict(call["arguments"]), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _attribute(env: Environment, name: str, default: Any) -> Any:
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return default


def _named(error: Exception) -> str:
    """Return the error's name and text; its text is the environment's code and may fail too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the name alone will do
        return type(error).__name__


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001 - so is the text of a value
        return f"of type {type(value).__name__}"
