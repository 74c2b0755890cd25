import contextlib
import time
from typing import Any

import pytest

from turnwise import UserError
from turnwise.testing.flaky import NONSENSE, FlakyEnv


def _play(env: FlakyEnv, seed: int) -> float:
    """Return the outcome of an episode; whatever befalls it is raised."""
    env.reset(seed=0, options={"episode_seed": seed})
    outcome = 0.0
    while True:
        _, reward, terminated, truncated, info = env.step("anything")
        outcome += reward
        assert info["is_valid"]
        if terminated or truncated:
            return outcome


def test_an_episode_that_nothing_befell_is_worth_one() -> None:
    assert [_play(FlakyEnv(), seed) for seed in range(20)] == [1.0] * 20


@pytest.mark.parametrize("said", ["", "no", "{"])
def test_whatever_is_said_counts(said: str) -> None:
    env = FlakyEnv(num_turns=1)
    env.reset(seed=0)
    assert env.step(said)[1:3] == (1.0, True)


def test_it_raises_about_as_often_as_told_and_never_pays_less_than_one() -> None:
    env, outcomes = FlakyEnv(raise_p=0.1), []
    for seed in range(300):
        with contextlib.suppress(RuntimeError):
            outcomes.append(_play(env, seed))
    assert set(outcomes) == {1.0}
    assert 0.6 < len(outcomes) / 300 < 0.85  # 0.9 ** 3 = 0.73


def test_a_retry_of_the_same_episode_can_succeed() -> None:
    env = FlakyEnv(reset_raise_p=0.5)
    raised = []
    for _ in range(40):
        try:
            env.reset(seed=0, options={"episode_seed": 7})
            raised.append(False)
        except RuntimeError:
            raised.append(True)
    assert 5 < sum(raised) < 35


def test_it_hangs_for_as_long_as_told() -> None:
    env = FlakyEnv(hang_p=1.0, hang_s=0.05)
    env.reset(seed=0)
    started = time.perf_counter()
    env.step("yes")
    assert time.perf_counter() - started >= 0.05


def test_nonsense_is_not_what_the_api_allows() -> None:
    env, seen = FlakyEnv(nonsense_p=1.0), []
    for seed in range(60):
        env.reset(seed=seed)
        seen.append(repr(env.step("yes")))
    assert set(seen) == {repr(item) for item in NONSENSE}


@pytest.mark.parametrize("kwargs", [{"raise_p": 2}, {"hang_p": -1}, {"nonsense_p": 1.5}, {"reset_raise_p": 7}])
def test_a_probability_is_from_zero_to_one(kwargs: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not a probability"):
        FlakyEnv(**kwargs)
