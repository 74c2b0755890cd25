import threading
import time
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest

from turnwise import Message, ToolEnv, TurnEnv, tool
from turnwise.env.conformance import Check, validate
from turnwise.records import Event

NAMES = [
    "make",
    "gymnasium api",
    "messages",
    "events",
    "determinism",
    "seeds",
    "malformed actions",
    "reset in the middle",
    "step after the end",
    "reset after close",
    "optional methods",
    "guidance",
    "episode length",
]


class GoodEnv(TurnEnv):
    """Keeps to everything; the bad ones below break one promise each."""

    max_turns = 4

    def begin(self, options: Mapping[str, Any]) -> Any:
        self.number = int(self.np_random.integers(1000))
        return f"number {self.number}"

    def act(self, action: Message) -> Any:
        self.reward("outcome", 0.25)
        return f"you said {action['content'][:10]}"

    def state_key(self) -> str | None:
        return f"{self.number} {self.num_turns}"

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        return str(rng.choice(["yes", "no"]))


class RaisesWhenMade(GoodEnv):
    def __init__(self) -> None:
        raise ValueError("no luck")


class HangsInReset(GoodEnv):
    def begin(self, options: Mapping[str, Any]) -> Any:
        time.sleep(30)


class IgnoresTheSeed(GoodEnv):
    def begin(self, options: Mapping[str, Any]) -> Any:
        self.number = time.perf_counter_ns()
        return f"number {self.number}"


class ChecksNoSpace(GoodEnv):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        _observation, info = super().reset(seed=seed, options=options)
        return [{"role": "user", "content": 7}], info


class SaysNothing(GoodEnv):
    def act(self, action: Message) -> Any:
        return []


class RewardsMoreThanItsEvents(GoodEnv):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward + 1, terminated, truncated, info


class EmitsInfinity(GoodEnv):
    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, info = super().step(action)
        return (
            observation,
            float("inf"),
            terminated,
            truncated,
            {**info, "events": (Event(channel="a", value=float("inf")),)},
        )


class AnswersByChance(GoodEnv):
    def act(self, action: Message) -> Any:
        return f"you said {time.perf_counter_ns()}"


class ForgetsInfo(GoodEnv):
    def step(self, action: Any) -> Any:
        return (*super().step(action)[:4], {})


class RaisesOnEmpty(GoodEnv):
    def act(self, action: Message) -> Any:
        return f"first letter {action['content'][0]}"


class TakesNoneForAnAction(GoodEnv):
    def step(self, action: Any) -> Any:
        return super().step(action if isinstance(action, str) else "yes")


class EchoesSurrogates(GoodEnv):
    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return ([{"role": "user", "content": "\ud800"}] if action == "" else observation, *rest)


class HangsOnEmpty(GoodEnv):
    def act(self, action: Message) -> Any:
        if not action["content"]:
            time.sleep(30)
        return "well"


class RemembersTheLastEpisode(GoodEnv):
    is_stale = False

    def begin(self, options: Mapping[str, Any]) -> Any:
        shown, self.is_stale = ("again" if self.is_stale else "first"), False
        super().begin(options)
        return shown

    def act(self, action: Message) -> Any:
        self.is_stale = self.num_turns == 1
        return "well"


class GoesOnAfterTheEnd(GoodEnv):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated and self.num_turns == 4 and bool(info["events"]), info


class PaysAfterTheEnd(GoodEnv):
    def step(self, action: Any) -> Any:
        if self._state is not None and self._state.is_over:
            _, _, terminated, truncated, info = super().step(action)
            return (
                [{"role": "user", "content": "x"}],
                1.0,
                terminated,
                truncated,
                {**info, "events": (Event(channel="a", value=1.0),)},
            )
        return super().step(action)


class BreaksWhenClosed(GoodEnv):
    is_closed = False

    def close(self) -> None:
        if self.is_closed:
            raise RuntimeError("closed twice")
        self.is_closed = True


class OracleMoves(GoodEnv):
    def oracle(self, action: str) -> float | None:
        self.number += 1
        return 0.0


class OracleExaggerates(GoodEnv):
    def oracle(self, action: str) -> float | None:
        return 100.0


class DemonstratesNonsense(ToolEnv):
    max_turns = 3

    def begin(self, options: Mapping[str, Any]) -> Any:
        return f"begin {self.np_random.integers(1000)}"

    @tool
    def stop(self) -> str:
        """Stop."""
        return "stopped"

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        return "stop now please"


class GuidesByNumber(GoodEnv):
    def guide(self) -> Any:
        return 7


class HidesGuidance(GoodEnv):
    def reset(self, **given: Any) -> Any:
        return super().reset(seed=given.get("seed"))


class GuidanceMoves(GoodEnv):
    def guide(self) -> str:
        return "try 7"

    def reset(self, **given: Any) -> Any:
        observation, info = super().reset(**given)
        return observation, {**info, "state_key": f"{info['state_key']} {'guidance' in (given.get('options') or {})}"}


class KeyIsANumber(GoodEnv):
    def state_key(self) -> Any:
        return 7


class NeverEnds(GoodEnv):
    max_turns = None


class GoldIsNoJson(GoodEnv):
    def gold(self) -> Any:
        return {"pages": {1, 2}}


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Any:
    """Return a function that validates an environment class."""
    env_id = "test/Tried-v0"

    def run(env_class: type[TurnEnv], limit_s: float = 5.0) -> dict[str, Check]:
        gymnasium.register(env_id, entry_point=env_class, disable_env_checker=True, order_enforce=False)
        return {found.name: found for found in validate(env_id, limit_s=limit_s, num_actions=50)}

    yield run
    gymnasium.registry.pop(env_id, None)


def test_a_good_environment_passes_everything(check: Any) -> None:
    checks = check(GoodEnv)
    assert list(checks) == NAMES
    assert all(found.passed and found.seconds >= 0 and "warning" not in found.detail for found in checks.values())


@pytest.mark.parametrize(
    ("env_class", "name", "detail"),
    [
        (RaisesWhenMade, "make", "no luck"),
        (IgnoresTheSeed, "gymnasium api", "AssertionError"),
        (IgnoresTheSeed, "determinism", "observation differs after 0 actions"),
        (IgnoresTheSeed, "reset in the middle", "observation differs"),
        (ChecksNoSpace, "messages", "not in the observation space"),
        (SaysNothing, "messages", "no message"),
        (RewardsMoreThanItsEvents, "events", "not the sum of the events"),
        (EmitsInfinity, "events", "finite value"),
        (AnswersByChance, "determinism", "observation differs after 1 actions"),
        (ForgetsInfo, "messages", 'info must have "events" and "is_valid"'),
        (RaisesOnEmpty, "malformed actions", "action '' raised IndexError"),
        (TakesNoneForAnAction, "malformed actions", "action None"),
        (EchoesSurrogates, "malformed actions", "not in the observation space"),
        (RemembersTheLastEpisode, "reset in the middle", "observation differs"),
        (GoesOnAfterTheEnd, "step after the end", "must leave the episode over"),
        (PaysAfterTheEnd, "step after the end", "must leave the episode over"),
        (BreaksWhenClosed, "reset after close", "closed twice"),
        (OracleMoves, "optional methods", "changed the state"),
        (OracleExaggerates, "optional methods", "not in [-1, 1]"),
        (DemonstratesNonsense, "optional methods", "is not valid"),
        (KeyIsANumber, "optional methods", "return a text or None"),
        (GuidesByNumber, "guidance", "guide returns a text or None, not '7'"),
        (HidesGuidance, "guidance", "does not show the guidance"),
        (GuidanceMoves, "guidance", "begins in another state"),
        (GoldIsNoJson, "optional methods", "not JSON serializable"),
    ],
)
def test_each_promise_can_be_broken_and_is_named(check: Any, env_class: type[TurnEnv], name: str, detail: str) -> None:
    found = check(env_class)[name]
    assert not found.passed
    assert detail in found.detail
    assert "\n" not in found.detail


def test_a_hanging_environment_fails_within_the_limit(check: Any) -> None:
    found = check(HangsOnEmpty, limit_s=0.2)["malformed actions"]
    assert not found.passed
    assert found.detail == "action '' took more than 0.2 s"
    assert found.seconds < 1.2


def test_a_reset_that_hangs_fails_every_check_that_needs_it(check: Any) -> None:
    checks = check(HangsInReset, limit_s=0.05)
    assert {name for name, found in checks.items() if found.passed} == {"make"}
    assert checks["seeds"].detail == "reset took more than 0.05 s"


def test_an_episode_without_end_is_a_warning(check: Any) -> None:
    checks = check(NeverEnds)
    assert checks["episode length"].passed
    assert "warning: not over after 50" in checks["episode length"].detail
    assert "warning: not tried" in checks["step after the end"].detail


def test_an_unknown_id_or_argument_is_a_failed_check() -> None:
    (found,) = validate("turnwise/Serch-v0")
    assert found.name == "make"
    assert not found.passed
    assert "did you mean" in found.detail
    (found,) = validate("turnwise/Search-v0", {"hops": 9})
    assert not found.passed
    assert "env.kwargs.hops=9" in found.detail


def test_no_thread_is_left_of_an_environment_that_does_not_hang(check: Any) -> None:
    before = set(threading.enumerate())
    check(GoodEnv)
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_what_is_registered_is_validated() -> None:
    from turnwise.cli.env import known_environments

    # These need a file of tasks, a server, an address, a name, a browser; their own tests validate them.
    apart = {f"turnwise/{name}-v0" for name in ("SWE", "MCP", "Remote", "OpenEnv", "TRL", "MiniWoB")}
    for spec in known_environments():
        if spec.id not in apart:
            assert [found for found in validate(spec.id) if not found.passed] == []
