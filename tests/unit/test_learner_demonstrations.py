"""Demonstrations: recorded by an environment itself; failures are left out."""

import asyncio
import threading
import time

import gymnasium
import pytest

from turnwise import demonstrations, warmstart
from turnwise.config.schema import RunConfig
from turnwise.demonstrations import NoDemonstrator, record
from turnwise.env.base import TurnEnv
from turnwise.errors import PolicyError, UserError
from turnwise.records import Task


class Counting(TurnEnv):
    """Say the next number; the demonstrator errs now and then, and gives up at `tired`."""

    instructions = "Count."

    def __init__(self, length=3, tired=99, mute=False):
        super().__init__()
        self.length, self.tired, self.mute = length, tired, mute

    def begin(self, options):
        self.options = dict(options)
        self.start = int(self.np_random.integers(10))
        return f"start {self.start}"

    def act(self, action):
        if action["content"] == f"say {self.start + self.num_turns}":
            self.reward("outcome", 1.0)
        self.reward("format", 5.0)
        if self.num_turns >= self.length:
            self.finish()
        return f"heard {action['content']}"

    def demonstrate(self, rng):
        if self.mute or self.num_turns >= self.tired:
            return None
        return f"say {self.start + self.num_turns + (1 if rng.random() < 0.8 else 7)}"


def tasks(count):
    return [Task(env_id="turnwise-tests/Counting-v0", task_id=str(n), seed=n, data={"extra": n}) for n in range(count)]


def test_an_episode_is_recorded_as_messages_with_the_sum_of_its_outcome():
    (found,) = record(Counting(), tasks(1), seed=0)
    assert [message["role"] for message in found.messages] == ["system", "user", *["assistant", "user"] * 3]
    assert found.messages[0]["content"] == "Count."
    said = [message["content"] for message in found.messages if message["role"] == "assistant"]
    heard = [message["content"] for message in found.messages if message["content"].startswith("heard")]
    assert heard == [f"heard {text}" for text in said]
    assert 0.0 <= found.outcome <= 3.0
    assert found.task.seed == 0


def test_the_outcome_leaves_other_channels_out():
    outcomes = [found.outcome for found in record(Counting(), tasks(40), seed=0)]
    assert max(outcomes) == 3.0
    assert len(set(outcomes)) > 1


def test_equal_seeds_give_equal_demonstrations_and_others_differ():
    same, again, other = (list(record(Counting(), tasks(8), seed=seed)) for seed in (3, 3, 4))
    assert same == again
    assert [d.messages[1] for d in same] == [d.messages[1] for d in other]  # the tasks are the same
    assert same != other


def test_reset_gets_the_tasks_seed_and_data():
    env = gymnasium.wrappers.OrderEnforcing(Counting())
    list(record(env, tasks(3), seed=0))
    assert env.unwrapped.options["extra"] == 2
    assert env.unwrapped.options["task_id"] == "2"
    assert env.unwrapped.options["split"] == "train"


def test_a_demonstrator_that_gives_up_ends_the_recording():
    (found,) = record(Counting(tired=2), tasks(1), seed=0)
    assert [message["role"] for message in found.messages][-2:] == ["assistant", "user"]
    assert sum(message["role"] == "assistant" for message in found.messages) == 2


def test_an_endless_episode_is_cut_off(monkeypatch):
    monkeypatch.setattr(demonstrations, "MAX_TURNS", 5)
    (found,) = record(Counting(length=10**9), tasks(1), seed=0)
    assert sum(message["role"] == "assistant" for message in found.messages) == 5


def test_an_environment_without_demonstrations_is_named():
    with pytest.raises(UserError, match=r"env.id=turnwise-tests/Counting-v0: .*no demonstrations"):
        list(record(Counting(mute=True), tasks(1), seed=0))
    failed = []
    assert list(record(Counting(mute=True), tasks(2), 0, failed.append)) == []
    assert [type(error) for error in failed] == [NoDemonstrator] * 2


class Meddling(Counting):
    """An episode fails where the demonstrator errs at first."""

    def act(self, action):
        if action["content"] != f"say {self.start + self.num_turns}":
            raise PolicyError("meddled with its grading")
        return super().act(action)


def test_an_episode_that_fails_is_left_out_and_told_or_raised():
    failed = []
    found = list(record(Meddling(length=1), tasks(30), 0, failed.append))
    assert len(found) + len(failed) == 30
    assert found
    assert {str(error) for error in failed} == {"meddled with its grading"}
    assert {found.outcome for found in found} == {1.0}
    with pytest.raises(PolicyError, match="meddled"):
        list(record(Meddling(length=1), tasks(30), seed=0))


@pytest.mark.parametrize(("right", "ends"), [(0.8, False), (0.2, True)])
def test_a_warm_start_ends_only_if_most_demonstrations_fail(monkeypatch, right, ends):
    def demonstrate(self, rng):
        return f"say {self.start + self.num_turns + (1 if rng.random() < right else 7)}"

    monkeypatch.setattr(Meddling, "demonstrate", demonstrate)
    monkeypatch.setattr(warmstart, "make_env", lambda env_id, kwargs: Meddling(length=1))
    monkeypatch.setattr(warmstart.TaskSet, "of", lambda *given: Numbered())
    config = RunConfig()
    config.sft.demonstrations = 30
    said = []
    if ends:
        with pytest.raises(PolicyError, match="meddled"):
            warmstart.demonstrations(config, said.append)
        return
    num_found = len(warmstart.demonstrations(config, said.append))
    assert said == [
        f"warm start: {30 - num_found} of 30 demonstrations left out, the first: meddled with its grading",
        f"warm start: {num_found} demonstrations recorded, 0 from files",
    ]


def test_a_warm_start_of_an_environment_without_demonstrations_ends_at_the_first(monkeypatch):
    monkeypatch.setattr(warmstart, "make_env", lambda env_id, kwargs: Counting(mute=True))
    monkeypatch.setattr(warmstart.TaskSet, "of", lambda *given: Numbered())
    config = RunConfig()
    config.sft.demonstrations = 10**9
    with pytest.raises(UserError, match=r"no demonstrations; write some with `turnwise env play"):
        warmstart.demonstrations(config, print)


def test_a_warm_start_that_is_given_up_records_no_further_demonstration(monkeypatch):
    begun = threading.Event()

    class Slow(Counting):
        def begin(self, options):
            begun.set()
            time.sleep(0.05)
            return super().begin(options)

    monkeypatch.setattr(warmstart, "make_env", lambda env_id, kwargs: Slow(length=1))
    monkeypatch.setattr(warmstart.TaskSet, "of", lambda *given: Numbered())
    monkeypatch.setattr(warmstart, "agent_of", lambda config, path: None)
    config = RunConfig()
    config.sft.demonstrations = 400  # twenty seconds

    async def given_up():
        working = asyncio.create_task(warmstart.warm_start(config, None, None, None, None, lambda said: None))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    began = time.monotonic()
    asyncio.run(given_up())  # it waits for the thread
    assert time.monotonic() - began < 5


class Numbered:
    """Tasks by number."""

    def task(self, index):
        return tasks(index + 1)[index]
