"""The curriculum: which task each group has, what it learns from groups, and what a checkpoint keeps of it."""

import asyncio
import json
import random

import pytest
from test_dispatch import ScriptedPlayer, good
from test_stream_selection import Outcomes

from turnwise.config import load_config
from turnwise.config.schema import CreditConfig, RolloutConfig
from turnwise.credit.select import Selector
from turnwise.curriculum import Curriculum
from turnwise.dispatch import Dispatcher
from turnwise.errors import UserError
from turnwise.stream import GroupStream
from turnwise.stream_state import StreamState
from turnwise.tasks import TaskSet

POOL = 4
SUCCESS = ("outcome", 0.5)
NAMES = [TaskSet(env_id="e", seed=7).task(place).task_id for place in range(POOL)]


def places(groups):
    return [NAMES.index(group.task.task_id) for group in groups]


class ByTask(Outcomes):
    """Member i of a group succeeds if i is below the task's easiness."""

    def __init__(self, easiness):
        self._easiness = easiness

    async def score(self, group):
        await asyncio.sleep(random.random() * 0.01)
        easiness = self._easiness[places([group])[0]]
        self._outcome = lambda number, index: None if easiness is None else float(index < easiness)
        return await super().score(group)


def stream(easiness, *, state=None, select=(), pool=POOL):
    state = state or StreamState()
    settings = RolloutConfig(group_size=4, groups_per_update=2)
    return GroupStream(
        Curriculum(TaskSet(env_id="e", seed=7), pool, state.curriculum, success=SUCCESS),
        Dispatcher([ScriptedPlayer("a", good)], 3, lambda failure: None),
        [ByTask(easiness)],
        settings,
        seed=7,
        stall_s=5.0,
        describe=str,
        selector=Selector.of(CreditConfig(select=list(select))),
        state=state,
    )


async def taken(groups, count):
    return [places(await groups.take(0)) for _ in range(count)]


def test_the_first_pass_is_in_the_pools_order_and_later_ones_go_from_easy_to_hard():
    async def run():
        groups = stream([1, 3, 0, 2])
        assert await taken(groups, 6) == [[0, 1], [2, 3], [1, 3], [0, 2], [1, 3], [0, 2]]
        assert groups.curriculum.metrics() == {"curriculum/measured_tasks": 4.0, "curriculum/success": 0.375}

    asyncio.run(run())


def test_the_latest_success_counts_and_an_unmeasured_task_comes_last():
    async def run():
        easiness = [1, None, 0, 2]
        groups = stream(easiness)
        assert await taken(groups, 3) == [[0, 1], [2, 3], [3, 0]]
        easiness[3] = 0
        assert await taken(groups, 5) == [[2, 1], [3, 0], [2, 1], [0, 2], [3, 1]]

    asyncio.run(run())


def test_groups_that_a_selection_leaves_out_are_measured_too():
    async def run():
        groups = stream([0, 4, 2, 2], select=[{"name": "dynamic_sampling"}])
        batches = await taken(groups, 3)
        assert all(set(batch) == {2, 3} for batch in batches)
        assert groups.state.curriculum["rates"] == {"0": 0.0, "1": 1.0, "2": 0.5, "3": 0.5}

    asyncio.run(run())


@pytest.mark.parametrize("stop", range(1, 6))
def test_a_resumed_curriculum_goes_on_as_if_it_had_not_stopped(stop):
    async def run():
        select = [{"name": "dynamic_sampling"}]
        groups = stream([1, 4, 3, 2], select=select)
        whole = await taken(groups, 7)
        other = stream([1, 4, 3, 2], select=select)
        first = await taken(other, stop)
        assert other.pending == ()
        state = StreamState(**json.loads(json.dumps(other.state.to_json())))
        resumed = stream([1, 4, 3, 2], state=state, select=select)
        assert first + await taken(resumed, 7 - stop) == whole
        assert resumed.state == groups.state

    asyncio.run(run())


def test_an_unfinished_group_has_its_task_of_then_after_a_resume():
    state = StreamState(next_group=9, unfinished=[5])
    state.curriculum = {"rates": {"3": 1.0}, "fresh": {}, "orders": {"1": [2, 0, 1, 3], "2": [3, 2, 1, 0]}}

    async def run():
        assert await taken(stream([1, 1, 1, 1], state=state), 1) == [[0, 2]]

    asyncio.run(run())


def test_a_pool_that_cannot_be_is_refused():
    tasks = TaskSet(env_id="e", num_tasks=3)
    with pytest.raises(UserError, match=r"rollout.curriculum=4: e has 3 training tasks; use at most 3"):
        Curriculum(tasks, 4, {}, success=SUCCESS)
    with pytest.raises(UserError, match=r"rollout.curriculum=8: a batch of .*=16 groups would hold a task twice"):
        load_config(None, ["rollout.curriculum=8"])
