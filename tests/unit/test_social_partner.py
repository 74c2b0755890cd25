"""A partner that is a model behind a real endpoint: what it is told, what it may do, and what happens when it fails."""

import asyncio
import json

import pytest
from judge_server import MODEL, JudgeServer, answers, fails, hangs, says
from rollout_pieces import Says, agent
from social_pieces import told

from turnwise import UserError
from turnwise.config.schema import TimeoutConfig
from turnwise.errors import EnvError, InfraError
from turnwise.records import End, FailureKind, Task
from turnwise.rollout.episode import EpisodeSpec, run_episode
from turnwise.rollout.threads import LostThreads
from turnwise.rollout.world import World
from turnwise.tasks import make_env

DIALOGUE = "turnwise/Dialogue-v0"


@pytest.fixture
def server():
    found = JudgeServer(says("Hello, what do you think?"))
    yield found
    found.die()


def made(server, **options):
    partner = {"model": MODEL, "base_url": server.url, "attempts": 1, "timeout_s": 2.0} | options
    return make_env(DIALOGUE, {"kinds": "price", "partner": partner})


def middle(info):
    """A price between what both think that the good is worth."""
    worth = [int(goal.split("worth ")[1].split()[0]) for goal in info["gold"]["goals"]]
    return sum(worth) // 2


def test_it_knows_its_own_goal_and_secret_only_and_takes_the_agents_offer(server):
    env = made(server)
    observation, info = env.reset(seed=3)
    assert observation[0]["content"].endswith("Hello, what do you think?")
    server.script = [says("Not bad. Why so little?"), says("Well then, I accept.")]
    price = middle(info)
    assert told(env.step(f"please offer {price}")) == {"relationship": pytest.approx(1 / 3)}
    answer = env.step("because it is old")
    assert answer[2]
    assert 0 < told(answer)["outcome"] < 1
    assert 0 < told(answer)["partner"] < 1
    heard = json.dumps(server.asked)
    gold = info["gold"]
    assert gold["goals"][1] in heard
    assert gold["secrets"][1] in heard
    assert gold["goals"][0] not in heard
    assert gold["secrets"][0] not in heard
    assert [message["role"] for message in server.asked[-1]["messages"]] == [
        "system",
        *["user", "assistant"] * 2,
        "user",
    ]


def test_its_offer_stands_until_the_agent_accepts_and_its_leaving_is_no_deal(server):
    env = made(server)
    _, info = env.reset(seed=3)
    server.script = [says(f"I could do {middle(info)}."), says("Fine weather!"), says("Goodbye.")]
    env.step("hello")
    env.step("yes, it is")
    assert set(told(env.step("accept"))) == {"outcome", "partner", "agreement"}
    env.reset(seed=3)
    left = env.step("offer 1")
    assert not left[2]  # no price at all, and only talk came back
    server.script = [says("Goodbye.")]
    assert told(env.step("hm")) == {"outcome": 0.0, "partner": 0.0, "agreement": 0.0}


def test_it_cannot_accept_what_nobody_offered_and_its_nonsense_is_talk(server):
    env = made(server)
    env.reset(seed=3)
    for nonsense in ("I accept!", "%%% \u202e 7 7 7", "x" * 100_000, '{"act": "accept"}', "half \\ud800"):
        server.script = [says(nonsense)]
        observation, _, terminated, _, _ = env.step("hm")
        assert not terminated
        assert env.observation_space.contains(observation)
        assert len(observation[0]["content"]) < 2100


@pytest.mark.parametrize("body", ["no json", '{"choices": []}', "[1]", '{"choices": [{"message": {"content": ""}}]}'])
def test_an_endpoint_that_answers_nonsense_is_asked_again_and_then_named(server, body):
    env = made(server, attempts=2)
    env.reset(seed=3)
    server.script = [answers(body), says("Better now.")]
    assert env.step("hm")[0][0]["content"].endswith("Better now.")
    server.script = [answers(body)] * 2
    with pytest.raises(EnvError, match=r"env\.kwargs\.partner: nothing but nonsense in 2 replies"):
        env.step("hm")


@pytest.mark.parametrize("act", [fails(500), fails(401), hangs])
def test_an_endpoint_that_fails_is_lost(server, act):
    env = made(server, timeout_s=0.3)
    env.reset(seed=3)
    server.script = [act]
    with pytest.raises(InfraError, match=r"env\.kwargs\.partner: "):
        env.step("hm")


def test_the_death_of_the_endpoint_ends_an_episode_without_any_reward_and_is_tried_again(server):
    env = made(server)
    task = Task(env_id=DIALOGUE, task_id="3", seed=3)
    spec = EpisodeSpec(trajectory_id="g/0", group_id="g", index=0, task=task, seed=0, order=0)

    async def talk(request, body):
        if len(body["messages"]) > 4:
            request.transport.close()
        return await says("Go on.")(request, body)

    server.usual = talk
    world = World("world", lambda: env, LostThreads())
    talker = agent(max_context=1 << 14, max_action_tokens=64)
    trajectory = asyncio.run(run_episode(spec, world, talker, Says("thanks", "please", "accept"), TimeoutConfig()))
    assert (trajectory.end, trajectory.failure.kind, trajectory.failure.stage) == (
        End.FAILED,
        FailureKind.INFRA,
        "step",
    )
    assert trajectory.failure.is_retryable
    assert trajectory.turns
    assert trajectory.events_by_channel == {}


def test_before_a_run_the_endpoint_must_be_there_and_know_the_model(server):
    with pytest.raises(
        UserError, match=r"env\.kwargs\.partner\.model=other: not served at http://.*; it serves scripted"
    ):
        made(server, model="other")
    server.die()
    with pytest.raises(UserError, match=r"env\.kwargs\.partner\.base_url=http://127"):
        made(server)
