import os
import signal
import time

import numpy as np
import pytest
import ray

from turnwise.errors import UserError
from turnwise.records import End, Failure, FailureKind, Group, Score, Task, Trajectory, Turn
from turnwise.store import Store
from turnwise.store.actor import start_store

WAIT_S = 60


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def actor(cluster, tmp_path):
    handle = start_store(str(tmp_path))
    yield handle
    ray.kill(handle)


def make_group(name, num_turns=2):
    task = Task(env_id="toy", task_id=name, seed=1)
    ids = np.arange(4, dtype=np.int32)
    turn = Turn(observation_ids=ids, action_ids=ids, logprobs=np.zeros(4, np.float32), versions=ids)
    identity = {"trajectory_id": f"{name}/0", "group_id": name, "index": 0, "task": task}
    member = Trajectory(**identity, turns=(turn,) * num_turns, end=End.TERMINATED)
    score = Score(trajectory_id=f"{name}/0", channel="outcome", value=1.0)
    return Group(group_id=name, task=task, trajectories=(member,), scores=(score,))


def make_failed(name):
    failure = Failure(kind=FailureKind.INFRA, stage="worker", cause="lost")
    task = Task(env_id="toy", task_id=name, seed=1)
    identity = {"trajectory_id": f"{name}/1", "group_id": name, "index": 1, "task": task}
    return Trajectory(**identity, turns=(), end=End.FAILED, failure=failure)


def get(reference):
    return ray.get(reference, timeout=WAIT_S)


def test_the_actor_is_named_store_and_does_what_the_store_does(actor, tmp_path):
    assert get(actor.ping.remote()) > 0
    named = ray.get_actor("store")
    assert get(named.append.remote(1, [make_group("g1")], [make_failed("g1")])) == 1
    assert get(named.append.remote(1, [make_group("g1")], [make_failed("g1")])) == 1
    assert get(named.append_eval.remote("eval-before-greedy", [make_group("e1")])) == "eval-before-greedy"
    sql = "select tag, ended, count(*) as n from trajectories group by 1, 2 order by 1, 2"
    assert get(named.query.remote(sql)).to_pylist() == [
        {"tag": "eval-before-greedy", "ended": "terminated", "n": 1},
        {"tag": "update-000001", "ended": "failed", "n": 1},
        {"tag": "update-000001", "ended": "terminated", "n": 1},
    ]
    assert get(named.truncate_after.remote(0)) == ("update-000001",)


def test_the_users_mistake_crosses_the_border_as_itself(actor):
    with pytest.raises(UserError) as refusal:
        get(actor.query.remote("select nonsense"))
    assert str(refusal.value.cause).startswith("sql=select nonsense: ")


def test_appends_all_at_once_are_all_stored(actor, tmp_path):
    get([actor.append.remote(update, [make_group(f"g{update}")]) for update in (*range(8), *range(8))])
    assert Store(tmp_path).updates() == tuple(range(8))


def test_a_killed_store_comes_back_and_loses_nothing(actor, tmp_path):
    get(actor.append.remote(1, [make_group("g1")]))
    victim = get(actor.ping.remote())
    pending = [actor.append.remote(update, [make_group(f"g{update}", num_turns=50)]) for update in range(2, 12)]
    os.kill(victim, signal.SIGKILL)
    get(pending)
    assert get(actor.ping.remote()) != victim
    store = Store(tmp_path)
    assert store.updates() == tuple(range(1, 12))
    assert all(store.groups(update)[0].group_id == f"g{update}" for update in store.updates())


def test_a_ping_does_not_wait_for_a_long_query(actor, tmp_path):
    get(actor.append.remote(1, [make_group("g1")]))
    slow = actor.query.remote("select sum(a.range * b.range) as s from range(60000) a, range(20000) b")
    began = time.monotonic()
    get(actor.ping.remote())
    assert time.monotonic() - began < 5
    assert not ray.wait([slow], timeout=0)[0]
