from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from turnwise import UserError
from turnwise.env.conformance import validate
from turnwise.tasks import make_env, world_of

LAKE = {"id": "FrozenLake-v1", "action_names": ["left", "down", "right", "up"]}


def _make(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return make_env("turnwise/GymText-v0", kwargs)


class RoomEnv(gymnasium.Env[Any, Any]):
    """Shows nested numbers; takes any space as argument."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return self.observation_space.sample(), float(action), False, False, {}


@pytest.fixture
def room() -> Any:
    gymnasium.register("test/Room-v0", entry_point=RoomEnv)
    yield "test/Room-v0"
    del gymnasium.registry["test/Room-v0"]


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Taxi-v4", "Blackjack-v1", "CliffWalking-v1"])
def test_environments_of_others_keep_the_contract(env_id: str) -> None:
    assert [check for check in validate("turnwise/GymText-v0", {"id": env_id}) if not check.passed] == []


def test_texts_actions_and_rewards_are_those_of_the_wrapped_environment() -> None:
    env, plain = _make(**LAKE, kwargs={"is_slippery": False}), gymnasium.make("FrozenLake-v1", is_slippery=False)
    state, _ = plain.reset(seed=1)
    messages, _ = env.reset(seed=1)
    assert messages == [{"role": "user", "content": f"state {state}"}]
    for word, number in (("down", 1), ("1", 1), ("RIGHT", 2), ("right", 2), ("down", 1), (" right ", 2)):
        state, reward, terminated, truncated, _ = plain.step(number)
        messages, *rest, info = env.step(word)
        assert messages[0]["content"] == f"state {state}"
        assert rest == [reward, terminated, truncated]
        assert [(event.channel, event.value) for event in info["events"]] == [("outcome", reward)]
    assert terminated
    assert reward == 1.0


@pytest.mark.parametrize(
    ("env_id", "names", "pattern"),
    [
        ("Blackjack-v1", None, r"state \d+ \d+ [01]"),
        ("Blackjack-v1", ["sum", "dealer", "ace"], r"sum \d+ dealer \d+ ace [01]"),
    ],
)
def test_tuples_are_numbers_in_order(env_id: str, names: list[str] | None, pattern: str) -> None:
    import re

    messages, _ = _make(id=env_id, observation_names=names).reset(seed=0)
    assert re.fullmatch(pattern, messages[0]["content"])


def test_nested_spaces_are_flattened(room: str) -> None:
    nested = spaces.Tuple([spaces.MultiDiscrete([3, 4]), spaces.Tuple([spaces.Discrete(5), spaces.MultiBinary(2)])])
    env = _make(id=room, kwargs={"observation_space": nested, "action_space": spaces.Discrete(3, start=5)})
    messages, _ = env.reset(seed=0)
    assert len(messages[0]["content"].split()) == 1 + 5
    assert env.step("5")[1] == 5.0
    assert env.step("7")[1] == 7.0
    assert env.step("0")[0][0]["content"] == "error: unknown action 0; expected one of 5, 6, 7"


def test_an_unknown_word_takes_no_step_and_names_the_choices() -> None:
    env = _make(**LAKE)
    before = env.reset(seed=0)[1]["state_key"]
    for word, shown in (("jump high", "unknown action jump; "), ("", ""), ("4", "unknown action 4; ")):
        messages, reward, _, _, info = env.step(word)
        assert messages[0]["content"] == f"error: {shown}expected one of left, down, right, up"
        assert reward == -1.0
        assert info["is_valid"] is False
        assert info["state_key"] == before
    inner = world_of(env)._wrapped  # type: ignore[attr-defined]
    assert inner.get_wrapper_attr("_elapsed_steps") == 0


def test_the_wrapped_time_limit_comes_out_as_truncation() -> None:
    env = _make(id="Taxi-v4", max_turns=1000)
    env.reset(seed=0)
    flags = [env.step("0")[2:4] for _ in range(200)]
    assert flags[-2:] == [(False, False), (False, True)]


def test_malformed_actions_run_out_of_turns() -> None:
    for kwargs, limit in ((LAKE, 100), ({"id": "Blackjack-v1"}, 100), ({**LAKE, "max_turns": 3}, 3)):
        env = _make(**kwargs)
        env.reset(seed=0)
        assert [env.step("?")[3] for _ in range(limit)].index(True) == limit - 1


def test_a_group_shares_the_first_state_but_not_the_luck() -> None:
    env = _make(id="Blackjack-v1")
    first, later = set(), Counter[str]()
    for episode_seed in range(20):
        first.add(env.reset(seed=3, options={"episode_seed": episode_seed})[0][0]["content"])
        later[env.step("1")[0][0]["content"]] += 1
    assert len(first) == 1
    assert len(later) > 3
    shown = [env.reset(seed=3, options={"episode_seed": 1}) and env.step("1")[0] for _ in range(2)]
    assert shown[0] == shown[1]


def test_demonstrations_are_random_legal_actions() -> None:
    world = world_of(_make(**LAKE))
    rng = np.random.default_rng(0)
    assert {world.demonstrate(rng) for _ in range(100)} == {"left", "down", "right", "up"}


def test_instructions_name_the_actions() -> None:
    assert "left, down, right, up" in world_of(_make(**LAKE)).instructions


def test_equal_observations_have_equal_state_keys() -> None:
    env = _make(**LAKE, kwargs={"is_slippery": False})
    start = env.reset(seed=0)[1]["state_key"]
    assert env.step("left")[4]["state_key"] == start != env.step("right")[4]["state_key"]


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"id": "FrozenLeak-v1"}, r"env.kwargs.id=FrozenLeak-v1: no such environment; did you mean FrozenLake-v1\?"),
        ({"id": "CartPole-v1"}, "observation space Box.* is not supported; .* Discrete"),
        ({"id": "Pendulum-v1"}, "action space Box.* is not supported; .* Discrete"),
        ({"id": "FrozenLake-v1", "kwargs": {"no_such": 1}}, "env.kwargs.kwargs=.*cannot be made"),
        ({"id": "FrozenLake-v1", "action_names": ["a", "b"]}, "not a word for each action; give 4 different words"),
        ({"id": "FrozenLake-v1", "action_names": ["a", "b", "c", "a"]}, "give 4 different words"),
        ({"id": "FrozenLake-v1", "action_names": ["go up", "b", "c", "d"]}, "a name is one word"),
        ({"id": "Blackjack-v1", "observation_names": ["a"]}, "give 3 words"),
    ],
)
def test_what_cannot_be_played_is_the_users_mistake(kwargs: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        _make(**kwargs)
