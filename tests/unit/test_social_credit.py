"""What the platform makes of the social environments: scores by channel, attribution, advantages by state or belief."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from rollout_pieces import Says, agent
from verified_pieces import judge, scores_of, table

from turnwise.config import build_plugin
from turnwise.config.schema import TimeoutConfig
from turnwise.credit.rewards import turn_rewards
from turnwise.records import ORACLE, Group, Task
from turnwise.rollout.episode import EpisodeSpec, run_episode
from turnwise.rollout.threads import LostThreads
from turnwise.rollout.world import World
from turnwise.tasks import make_env, world_of
from turnwise_rewards.events import EventsConfig, EventsScorer
from turnwise_rewards.verified.attribution import Attribution, AttributionConfig

DIALOGUE, QUESTIONS = "turnwise/Dialogue-v0", "turnwise/Questions-v0"


def demonstrated(env_id, seed, luck):
    """The actions of a demonstration."""
    env, rng, actions, over = make_env(env_id, {"mistakes": 0.3}), np.random.default_rng(luck), [], False
    env.reset(seed=seed)
    while not over:
        actions.append(world_of(env).demonstrate(rng))
        _, _, terminated, truncated, _ = env.step(actions[-1])
        over = terminated or truncated
    return actions


def rolled_out(env_id, seed, actions, index):
    """The trajectory of these actions, as a rollout worker records it."""
    task = Task(env_id=env_id, task_id=str(seed), seed=seed)
    spec = EpisodeSpec(trajectory_id=f"g/{index}", group_id="g", index=index, task=task, seed=index, order=index)
    world = World("world", lambda: make_env(env_id), LostThreads(), asks_oracle=True)
    talker = agent(max_context=1 << 14, max_action_tokens=64)
    return asyncio.run(run_episode(spec, world, talker, Says(*actions), TimeoutConfig()))


def group_of(env_id, seed=3, size=5):
    trajectories = [rolled_out(env_id, seed, demonstrated(env_id, seed, luck), luck) for luck in range(size)]
    assert all(trajectory.failure is None for trajectory in trajectories)
    group = Group(group_id="g", task=trajectories[0].task, trajectories=tuple(trajectories))
    return replace(group, scores=tuple(EventsScorer(EventsConfig()).score(group)))


def advantages(group, channels, name, **options):
    kind, config = build_plugin("estimator", {"name": name, **options})
    return kind(config).estimate(turn_rewards([group], channels))


@pytest.fixture(scope="module")
def quizzes():
    return group_of(QUESTIONS)


def test_questions_give_information_and_curiosity_to_the_turns_that_earned_them(quizzes):
    rewards = turn_rewards([quizzes], {"outcome": 1.0, "info_gain": 0.1, "curiosity": 1.0, ORACLE: 0.1})
    for row, trajectory in enumerate(quizzes.trajectories):
        for turn, one in enumerate(trajectory.turns):
            events = {event.channel: event.value for event in one.events}
            for channel in ("info_gain", "curiosity", ORACLE):
                assert rewards.turn[channel][row, turn] == pytest.approx(events.get(channel, 0.0))
        assert rewards.outcome["outcome"][row] == trajectory.events_by_channel["outcome"]
        assert one.call["name"] == "guess"


def test_a_better_question_in_the_same_state_has_the_greater_advantage(quizzes):
    found = advantages(quizzes, {ORACLE: 1.0}, "vpr")
    first = [trajectory.turns[0] for trajectory in quizzes.trajectories]
    assert len({turn.state_key for turn in first}) == 1
    worth = [next(event.value for event in turn.events if event.channel == ORACLE) for turn in first]
    assert len(set(worth)) > 1
    order = np.argsort(worth, kind="stable")
    assert np.all(np.diff(found.values[order, 0]) >= -1e-9)
    assert found.values[order[-1], 0] > found.values[order[0], 0]


@pytest.mark.parametrize(
    ("name", "options"), [("turnwise", {}), ("gigpo", {}), ("turn_loo", {}), ("rebel", {"consistency": "curiosity"})]
)
def test_estimators_by_turn_state_and_belief_take_what_questions_give(quizzes, name, options):
    channels = {"outcome": 1.0, "info_gain": 0.1, "curiosity": 1.0}
    found = advantages(quizzes, channels, name, **options)
    assert found.mask.any()
    assert np.isfinite(found.values).all()
    assert len(np.unique(found.values[found.mask].round(9))) > 1


def test_a_judge_attributes_the_deal_to_the_words_that_won_it():
    talks = group_of(DIALOGUE)
    gained = [talk.events_by_channel["outcome"] for talk in talks.trajectories]
    assert len(set(gained)) > 1

    def attribute(question):
        assert question.known["question"].startswith("You ")  # the agent's goal
        turns = question.quoted["turns"]
        return {name: 3 if turn["done"].startswith(("accept", "please")) else 0 for name, turn in turns.items()}

    scorer = Attribution(AttributionConfig(judge=judge(attribute)))
    scores = scores_of(scorer, talks)
    for (row, turn), value in table(scores).items():
        said = talks.trajectories[row].turns[turn].action
        assert value == pytest.approx(gained[row] if said.startswith(("accept", "please")) else 0.0)
    scored = replace(talks, scores=talks.scores + tuple(scores))
    channels = {
        "outcome": 1.0,
        "attribution": 1.0,
        "relationship": 0.2,
        "partner": 0.2,
        "agreement": 0.2,
        "secret": 0.5,
    }
    found = advantages(scored, channels, "turnwise")
    assert np.isfinite(found.values).all()
    assert found.mask.any()
