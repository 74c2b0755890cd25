"""Rollouts against a real engine without a model: lock-step runs repeat, and a flaky environment is outlived."""

import asyncio
from collections import Counter

import pytest
from rollout_pieces import run_all
from transformers import AutoTokenizer

from turnwise.config.schema import TimeoutConfig
from turnwise.engine.client import LocalEngineClient
from turnwise.records import Task
from turnwise.rollout.episode import EpisodeSpec
from turnwise.rollout.worker import RolloutWorker
from turnwise.testing.scripted import ScriptedEngine
from turnwise_agents import TINY_MODEL
from turnwise_agents.chat import ChatAgent, ChatConfig

FLAKY = "turnwise/Flaky-v0"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY_MODEL)


def specs(count, attempt=1):
    task = Task(env_id=FLAKY, task_id="t", seed=3)
    return [
        EpisodeSpec(trajectory_id=f"g/{k}", group_id="g", index=k, task=task, seed=100 + k, order=k, attempt=attempt)
        for k in range(count)
    ]


def play(tokenizer, env_kwargs, count, *, answer=lambda context: " yes", lockstep=False, slots=8, attempts=1):
    """The trajectories of the last attempt of each episode, the worker's status and the batches of the engine."""
    batches = []

    def counted(context):
        batches.append(len(context))
        return answer(context)

    async def run():
        engine = ScriptedEngine(counted, tokenizer, lockstep=lockstep)
        chat = ChatAgent(ChatConfig(format="text", max_context=512, max_action_tokens=8), tokenizer)
        timeouts = TimeoutConfig(reset_s=5.0, step_s=0.3, generate_s=5.0, episode_s=30.0)
        runner = RolloutWorker("rollout:0", FLAKY, env_kwargs, chat, LocalEngineClient(engine), timeouts, slots)
        found = {}
        for attempt in range(1, attempts + 1):
            missing = [spec for spec in specs(count, attempt) if _failed(found.get(spec.trajectory_id))]
            found |= await run_all(runner, missing)
        status = runner.status()
        await runner.close()
        engine.shutdown()
        return found, status, batches

    return asyncio.run(run())


def _failed(trajectory):
    return trajectory is None or trajectory.failure is not None


def test_what_the_engine_sampled_is_what_the_trajectory_holds(tokenizer):
    odd = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in " yes"]
    assert odd != tokenizer.encode(" yes", add_special_tokens=False), "the ids are not canonical"
    found, status, _ = play(tokenizer, {"num_turns": 2}, 3, answer=lambda context: odd)
    assert status["failures"] == {}, {t.failure for t in found.values()}
    assert [turn.action_ids.tolist() for t in found.values() for turn in t.turns] == [odd] * 6
    assert {turn.action for t in found.values() for turn in t.turns} == {"yes"}
    assert all(turn.versions.tolist() == [0] * 4 for t in found.values() for turn in t.turns)


def test_equal_lock_step_runs_ask_the_engine_the_same_in_the_same_order(tokenizer):
    def run():
        found, _, batches = play(tokenizer, {"num_turns": 3}, 12, lockstep=True, slots=4)
        assert all(trajectory.failure is None for trajectory in found.values())
        turns = [turn for k in sorted(found) for turn in found[k].turns]
        return [(turn.observation_ids.tolist(), turn.action_ids.tolist()) for turn in turns], batches

    first, second = run(), run()
    assert first == second
    assert len(first[1]) == 36


def test_a_flaky_environment_costs_no_wrong_reward(tokenizer):
    faults = {"raise_p": 0.1, "hang_p": 0.05, "nonsense_p": 0.05, "reset_raise_p": 0.05, "hang_s": 1.0}
    found, status, _ = play(tokenizer, faults, 60, attempts=1)
    assert len(found) == 60
    failures = Counter(trajectory.failure.label for trajectory in found.values() if trajectory.failure)
    assert set(failures) == {"env:step", "env:reset"}, "the faults that were asked for did happen"
    assert dict(failures) == status["failures"]
    for trajectory in found.values():
        assert trajectory.events_by_channel == ({} if trajectory.failure else {"outcome": 1.0})


def test_trying_again_heals_most_of_it(tokenizer):
    found, _, _ = play(tokenizer, {"raise_p": 0.2}, 24, attempts=12)
    assert not [trajectory for trajectory in found.values() if trajectory.failure]
    assert max(trajectory.provenance["attempt"] for trajectory in found.values()) > 1


def test_an_answer_that_the_engine_cannot_give_is_the_engines_failure(tokenizer):
    def broken(context):
        raise ArithmeticError("no weights")

    found, _, _ = play(tokenizer, {}, 2, answer=broken)
    assert {trajectory.failure.label for trajectory in found.values()} == {"engine:generate"}
    assert all("no weights" in trajectory.failure.cause for trajectory in found.values())
