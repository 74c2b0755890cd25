"""The environment's own rewards as scores."""

import numpy as np

from turnwise.records import End, Event, Group, Task, Trajectory, Turn
from turnwise_rewards.events import EventsConfig, EventsScorer

TASK = Task(env_id="e", task_id="t", seed=1)


def turn(*events):
    ids = np.array([1, 2], dtype=np.int32)
    pairs = tuple(Event(channel=channel, value=value) for channel, value in events)
    return Turn(observation_ids=ids, action_ids=ids, logprobs=ids.astype(np.float32), versions=ids, events=pairs)


def group(*episodes):
    trajectories = tuple(
        Trajectory(trajectory_id=f"g/{k}", group_id="g", index=k, task=TASK, turns=turns, end=End.TERMINATED)
        for k, turns in enumerate(episodes)
    )
    return Group(group_id="g", task=TASK, trajectories=trajectories)


def shown(*episodes):
    scores = EventsScorer(EventsConfig()).score(group(*episodes))
    assert {score.source for score in scores} == {"events"}
    return [(score.trajectory_id, score.channel, score.turn, score.value) for score in scores]


def test_the_outcome_is_one_score_of_the_whole_trajectory():
    assert shown((turn(("outcome", 0.25)), turn(), turn(("outcome", 0.5)))) == [("g/0", "outcome", None, 0.75)]


def test_a_complete_episode_without_an_outcome_has_the_outcome_zero():
    assert shown((turn(),), ()) == [("g/0", "outcome", None, 0.0), ("g/1", "outcome", None, 0.0)]


def test_another_channel_is_scored_where_it_was_emitted_and_nowhere_else():
    episode = (turn(("format", -0.5), ("format", 0.25)), turn(), turn(("format", 1.0), ("progress", 2.0)))
    assert shown(episode)[1:] == [
        ("g/0", "format", 0, -0.25),
        ("g/0", "format", 2, 1.0),
        ("g/0", "progress", 2, 2.0),
    ]
