"""Many episodes at once: slots, threads, sessions, and what a hanging environment does to the others."""

import asyncio
import threading
import time

import pytest
from rollout_pieces import Obedient, Says, run_all, spec, worker

from turnwise.rollout.threads import CallThread, CallTimeoutError, LostThreads


@pytest.fixture(autouse=True)
def _open_gate():
    Obedient.gate.clear()
    Obedient.closed.clear()
    Obedient.made = 0
    yield
    Obedient.gate.set()


async def eventually(condition, seconds=3.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came about"
        await asyncio.sleep(0.01)


def test_slots_bound_what_runs_at_once_and_environments_are_used_again():
    async def play():
        client = Says("on", wait_s=0.005)
        runner = worker(client, slots=3)
        found = await run_all(runner, [spec(index=k) for k in range(10)])
        assert len(found) == 10
        assert all(trajectory.failure is None for trajectory in found.values())
        return client, runner.status()

    client, status = asyncio.run(play())
    assert client.most_running == 3 + 1, "a freed slot opens the next session before it closes its own"
    assert Obedient.made == 3
    assert (status["episodes"], status["turns"], status["waiting"], status["running"]) == (10, 30, 0, [])


def test_sessions_are_opened_together_and_the_next_before_the_last_is_closed():
    client = Says("on")
    asyncio.run(run_all(worker(client, slots=2), [spec(index=k) for k in range(4)]))
    assert client.calls[0] == ("open", ("g/0#1", "g/1#1"))
    names = [(kind, name) for kind, sessions in client.calls for name in sessions]
    assert sorted(names) == sorted((kind, f"g/{k}#1") for kind in ("open", "close") for k in range(4))
    first_close = next(k for k, (kind, _) in enumerate(names) if kind == "close")
    assert names[first_close - 1] == ("open", "g/2#1")


def test_calls_from_several_sides_share_the_slots():
    async def play():
        client = Says("on", wait_s=0.005)
        runner = worker(client, slots=2)
        await asyncio.gather(*(runner.run(spec(index=k)) for k in range(5)))
        return client.most_running

    assert asyncio.run(play()) <= 3


def test_a_hanging_environment_costs_no_reward_and_holds_up_nobody():
    async def play():
        client = Says("on", by_task={"bad": ("on", "hang")})
        runner = worker(client, slots=4, step_s=0.3)
        specs = [spec("bad", k) if k % 4 == 0 else spec("good", k) for k in range(16)]
        found = await run_all(runner, specs)
        bad = [trajectory for trajectory in found.values() if trajectory.group_id == "bad"]
        good = [trajectory for trajectory in found.values() if trajectory.group_id == "good"]
        assert {trajectory.failure.label for trajectory in bad} == {"env:step"}
        assert all(trajectory.events_by_channel == {} for trajectory in bad)
        assert [trajectory.events_by_channel["outcome"] for trajectory in good] == [1.0] * 12
        status = runner.status()
        assert status["lost_threads"] == 4
        assert status["failures"] == {"env:step": 4}
        assert Obedient.closed == []
        Obedient.gate.set()
        await eventually(lambda: runner.status()["lost_threads"] == 0)
        assert len(Obedient.closed) == 4, "a thread that comes back closes its environment"
        assert runner.status()["lost_threads_total"] == 4

    asyncio.run(play())


def test_after_a_failure_the_environment_is_closed_and_made_again():
    async def play():
        runner = worker(Says("on", by_task={"bad": ("raise",)}), slots=1)
        for group in ("bad", "good", "good"):
            await runner.run(spec(group))
        await eventually(lambda: len(Obedient.closed) == 1)

    asyncio.run(play())
    assert Obedient.made == 2


def test_a_worker_with_too_many_lost_threads_is_worn():
    async def play():
        runner = worker(Says("hang"), slots=4, step_s=0.1, max_lost_threads=2)
        await runner.run(spec())
        assert not runner.is_worn
        await runner.run(spec())
        assert runner.is_worn
        assert runner.status()["is_worn"]

    asyncio.run(play())


def test_equal_runs_give_equal_tokens():
    def tokens():
        found = asyncio.run(run_all(worker(Says("on", "off"), slots=3), [spec(index=k) for k in range(8)]))
        turns = [turn for k in range(8) for turn in found[f"g/{k}"].turns]
        return [(turn.observation_ids.tolist(), turn.action_ids.tolist()) for turn in turns]

    assert tokens() == tokens()


def test_status_shows_what_each_episode_is_doing():
    async def play():
        runner = worker(Says("on", by_task={"slow": ("on", "never"), "hung": ("hang",)}), slots=3)
        waiting = asyncio.create_task(run_all(runner, [spec("slow"), spec("hung"), spec("hung", 1), spec("late")]))
        await eventually(lambda: {live["phase"] for live in runner.status()["running"]} == {"generate", "step"})
        status = runner.status()
        slow = next(live for live in status["running"] if live["trajectory_id"] == "slow/0")
        await eventually(lambda: next(iter(runner.status()["running"]))["turns"] == 1)
        assert (slow["phase"], status["waiting"]) == ("generate", 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        Obedient.gate.set()
        await runner.close()

    asyncio.run(play())


def test_who_leaves_early_drops_what_has_not_begun():
    async def play():
        runner = worker(Says("on", wait_s=0.02), slots=1)
        stream = runner.run_many([spec(index=k) for k in range(5)])
        await anext(stream)
        await stream.aclose()
        assert runner.status()["waiting"] == 0
        assert (await runner.run(spec("other"))).failure is None
        assert runner.status()["episodes"] <= 3

    asyncio.run(play())


def test_closing_a_worker_closes_its_environments_and_ends_their_threads():
    before = set(threading.enumerate())

    async def play():
        runner = worker(Says("on"), slots=2)
        await run_all(runner, [spec(index=k) for k in range(4)])
        assert len(set(threading.enumerate()) - before) == 2
        await runner.close()
        assert len(Obedient.closed) == 2
        await eventually(lambda: set(threading.enumerate()) <= before)

    asyncio.run(play())


def test_an_engine_that_refuses_sessions_kills_no_slot():
    class Refusing(Says):
        def open(self, sessions):
            raise ConnectionError("engine gone")

    async def play():
        runner = worker(Refusing(ConnectionError("engine gone")), slots=1)
        found = await run_all(runner, [spec(index=k) for k in range(3)])
        assert {trajectory.failure.label for trajectory in found.values()} == {"engine:generate"}
        return runner.status()["failures"]

    assert asyncio.run(play()) == {"engine:generate": 3, "engine:session": 3}


def test_a_thread_that_never_comes_back_is_counted_and_one_that_does_runs_its_end():
    async def play():
        lost, gate, ended = LostThreads(), threading.Event(), threading.Event()
        thread = CallThread("t", lost, at_end=ended.set)
        assert await thread.call(lambda: 5, 1.0) == 5
        with pytest.raises(CallTimeoutError, match=r"time-out after 0.1 s"):
            await thread.call(lambda: gate.wait(10), 0.1)
        assert (lost.now, thread.is_over, ended.is_set()) == (1, True, False)
        gate.set()
        await eventually(lambda: lost.now == 0)
        assert ended.is_set()

    asyncio.run(play())


def test_a_time_out_of_the_called_code_is_its_own_error():
    def late():
        raise TimeoutError("its own")

    async def play():
        lost = LostThreads()
        thread = CallThread("t", lost)
        with pytest.raises(TimeoutError, match="its own"):
            await thread.call(late, 1.0)
        assert not thread.is_over
        thread.close()
        return lost.total

    assert asyncio.run(play()) == 0


def test_a_cancelled_call_leaves_its_thread_behind():
    async def play():
        lost, gate = LostThreads(), threading.Event()
        thread = CallThread("t", lost)
        call = asyncio.create_task(thread.call(lambda: gate.wait(10), 5.0))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert lost.now == 1
        gate.set()
        await eventually(lambda: lost.now == 0)

    asyncio.run(play())
