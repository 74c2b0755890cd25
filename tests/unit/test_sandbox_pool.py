"""A pool of real sandboxes: leases, silence, limits of starts and commands, replacement, calls that come twice."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from turnwise.config import load_config
from turnwise.config.schema import SandboxConfig
from turnwise.errors import InfraError, UserError
from turnwise.sandbox import FileRefused, Reason, Sandbox, SandboxLost, Tier, pool, source
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.pool import Lease, PoolGone, SandboxPool
from turnwise.sandbox.pooled import Leasing, PooledSandbox
from turnwise.sandbox.tiers import missing, open_sandbox

pytestmark = pytest.mark.skipif(bool(missing(Tier.BUBBLEWRAP)), reason=f"bubblewrap: {missing(Tier.BUBBLEWRAP)}")

POLICY = SandboxPolicy(disk_mb=8, memory_mb=64)
SMALL = SandboxConfig(pool=1, warm=2, max_open=6)


@contextlib.asynccontextmanager
async def opened(config: SandboxConfig = SMALL, **options: Any) -> AsyncIterator[SandboxPool]:
    made = SandboxPool(config, **options)
    try:
        yield made
    finally:
        await made.close()
        assert made.status()["open"] == 0


async def leased(
    from_pool: SandboxPool, policy: SandboxPolicy = POLICY, key: str = "", within_s: float = 20.0
) -> Lease:
    key = key or str(time.monotonic_ns())
    return await from_pool.lease(dataclasses.asdict(policy), "test", key, field="sandbox", within_s=within_s)


async def run(from_pool: SandboxPool, lease: Lease, number: int, command: str, **options: Any) -> bytes:
    return (await from_pool.call(lease.lease_id, number, "exec", {"command": command, **options})).stdout


async def until(holds: Callable[[], bool], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


def test_a_lease_from_a_warm_pool_takes_no_start() -> None:
    async def take() -> list[float]:
        async with opened() as made:
            await made.release((await leased(made)).lease_id)
            await until(lambda: made.status()["ready"] == 2)
            seconds = []
            for _ in range(5):
                await until(lambda: made.status()["ready"] == 2)
                began = time.perf_counter()
                lease = await leased(made)
                seconds.append(time.perf_counter() - began)
                assert await run(made, lease, 1, "echo on") == b"on\n"
                await made.release(lease.lease_id)
            return seconds

    assert min(asyncio.run(take())) < 0.010


def test_what_was_used_is_never_used_again() -> None:
    async def use() -> None:
        async with opened() as made:
            for _ in range(6):
                lease = await leased(made)
                assert await run(made, lease, 1, "cat /workspace/* /tmp/* /dev/shm/* 2>/dev/null") == b""
                await run(made, lease, 2, "for d in /workspace /tmp /dev/shm; do echo left > $d/left; done")
                await made.release(lease.lease_id)
                await made.release(lease.lease_id)
            await until(lambda: made.status()["replaced"] == 6)
            assert made.status()["leaks"] == 0

    asyncio.run(use())


def test_where_a_start_is_slow_what_was_used_is_reset_if_it_can_prove_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "REPLACED", ())

    async def use() -> None:
        async with opened(dataclasses.replace(SMALL, warm=1, max_open=1)) as made:
            for _ in range(4):
                lease = await leased(made)
                assert await run(made, lease, 1, "cat /workspace/* /tmp/* /dev/shm/* 2>/dev/null") == b""
                hide = "mkdir -p $d/a/b; echo left > $d/a/b/.left; chmod 000 $d/a/b; ln -s / $d/root"
                await run(made, lease, 2, f"for d in /workspace /tmp /dev/shm; do {hide}; done; sleep 50 & true")
                await made.release(lease.lease_id)
                await until(lambda: made.status()["ready"] == 1)
            found = made.status()
            assert (found["starts"], found["reset"], found["replaced"]) == (1, 4, 0)
            lease = await leased(made)
            segment = "import ctypes; print(ctypes.CDLL(None).shmget(1234, 4096, 0o1666) >= 0)"
            assert await run(made, lease, 1, f"python3 -c '{segment}'") == b"True\n"
            await made.release(lease.lease_id)
            await until(lambda: made.status()["ready"] == 1)
            assert made.status()["replaced"] == 1, "a segment of memory is left"

    asyncio.run(use())


def test_a_silent_holder_loses_its_sandbox_and_one_that_speaks_does_not() -> None:
    async def wait() -> None:
        async with opened(dataclasses.replace(SMALL, lease_s=1.0)) as made:
            silent, speaking = await leased(made), await leased(made)
            busy = asyncio.create_task(run(made, silent, 1, "sleep 60", deadline_s=60))
            for _ in range(12):
                await asyncio.sleep(0.2)
                assert await made.renew(speaking.lease_id)
            with pytest.raises(SandboxLost):
                await busy
            assert not await made.renew(silent.lease_id)
            with pytest.raises(SandboxLost, match="its lease has ended"):
                await run(made, silent, 2, "true")
            assert await run(made, speaking, 1, "echo on") == b"on\n"
            found = made.status()
            assert (found["expired"], found["leased"]) == (1, 1)

    asyncio.run(wait())


def test_a_call_that_comes_twice_is_done_once() -> None:
    async def twice() -> None:
        async with opened() as made:
            first, second = await asyncio.gather(leased(made, key="same"), leased(made, key="same"))
            assert first == second == await leased(made, key="same")
            assert made.status()["leases"] == 1
            add = "echo x >> f; wc -l < f"
            assert await asyncio.gather(*(run(made, first, 1, add) for _ in range(3))) == [b"1\n"] * 3
            assert await run(made, first, 2, add) == b"2\n"
            with pytest.raises(SandboxLost, match="came late"):
                await run(made, first, 1, add)
            assert await run(made, first, 2, add) == b"2\n"

    asyncio.run(twice())


class Counting:
    """Opens sandboxes and counts how many it does at once, and when."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.now, self.most = seconds, 0, 0
        self.times: list[float] = []

    async def __call__(self, policy: SandboxPolicy, field: str) -> Sandbox:
        self.now += 1
        self.most = max(self.most, self.now)
        self.times.append(time.monotonic())
        try:
            await asyncio.sleep(self.seconds)
            return await open_sandbox(policy, field)
        finally:
            self.now -= 1


def test_starts_are_limited_at_once_and_in_a_second() -> None:
    async def start(config: SandboxConfig, opener: Counting) -> None:
        async with opened(config, open_one=opener) as made:
            await asyncio.gather(*(leased(made) for _ in range(6)))

    opener = Counting(0.1)
    asyncio.run(start(SandboxConfig(warm=0, starts_at_once=2, starts_per_s=1000.0), opener))
    assert opener.most == 2
    opener = Counting()
    asyncio.run(start(SandboxConfig(warm=0, starts_at_once=6, starts_per_s=10.0), opener))
    assert opener.times[-1] - opener.times[0] >= 0.5


def test_no_more_are_open_than_may_be_and_who_waits_too_long_is_told() -> None:
    async def wait() -> None:
        async with opened(dataclasses.replace(SMALL, warm=2, max_open=2)) as made:
            held = [await leased(made), await leased(made)]
            with pytest.raises(
                InfraError, match=r"no sandbox was to be had within 0\.2 s: 2 leased, 2 of .*max_open=2"
            ):
                await leased(made, within_s=0.2)
            waiting = asyncio.create_task(leased(made))
            await asyncio.sleep(0.1)
            assert made.status()["waiting"] == 1
            await made.release(held[0].lease_id)
            assert await run(made, await waiting, 1, "echo on") == b"on\n"
            assert made.status()["open"] <= 2

    asyncio.run(wait())


def test_another_policy_takes_the_room_of_what_nobody_waits_for() -> None:
    async def change() -> None:
        async with opened(dataclasses.replace(SMALL, warm=2, max_open=2)) as made:
            await made.release((await leased(made)).lease_id)
            await until(lambda: made.status()["ready"] == 2)
            for files in range(32, 40):
                lease = await leased(made, dataclasses.replace(POLICY, files=files))
                assert await run(made, lease, 1, "ulimit -n") == f"{files}\n".encode()
                await made.release(lease.lease_id)
            assert len(made._shelves) <= pool.NUM_POLICIES + 1

    asyncio.run(change())


def test_commands_at_once_are_limited_and_files_are_not() -> None:
    async def ask() -> None:
        async with opened(dataclasses.replace(SMALL, execs_at_once=1)) as made:
            first, second = await leased(made), await leased(made)
            began = time.monotonic()
            slow = asyncio.create_task(run(made, first, 1, "sleep 0.5"))
            await asyncio.sleep(0.05)
            await made.call(second.lease_id, 1, "write", {"path": "f", "data": b"x"})
            assert time.monotonic() - began < 0.5
            assert await run(made, second, 2, "cat f") == b"x"
            assert time.monotonic() - began >= 0.5
            await slow

    asyncio.run(ask())


def test_a_start_that_fails_is_told_to_who_waits_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSE_S", 0.05)
    fails = iter([SandboxLost("no"), OSError("full"), UserError("sandbox.minimum", "x", "none", "do")])

    async def open_one(policy: SandboxPolicy, field: str) -> Sandbox:
        for error in fails:
            raise error
        return await open_sandbox(policy, field)

    async def ask() -> None:
        async with opened(dataclasses.replace(SMALL, warm=1), open_one=open_one) as made:
            with pytest.raises(SandboxLost, match="no"):
                await leased(made)
            await until(lambda: made.status()["ready"] == 1)
            assert made.status()["failed_starts"] == 3
            assert await run(made, await leased(made), 1, "echo on") == b"on\n"

    asyncio.run(ask())


def test_what_does_not_close_is_a_leak_and_its_room_is_given_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CLOSE_S", 0.1)
    stuck: list[Sandbox] = []

    async def open_one(policy: SandboxPolicy, field: str) -> Sandbox:
        box = await open_sandbox(policy, field)
        if not stuck:
            stuck.append(box)
            box.close, close = lambda: asyncio.sleep(60), box.close  # type: ignore[method-assign]
            closing.append(close)
        return box

    closing: list[Callable[[], Awaitable[None]]] = []

    async def ask() -> None:
        async with opened(dataclasses.replace(SMALL, warm=0, max_open=1), open_one=open_one) as made:
            await made.release((await leased(made)).lease_id)
            await made.release((await leased(made)).lease_id)
            assert made.status()["leaks"] == 1
        await closing[0]()

    asyncio.run(ask())


def test_a_pool_clears_away_what_others_left() -> None:
    async def ask() -> int:
        async with opened(reaper=lambda: 3) as made:
            await leased(made)
            await until(lambda: made.status()["orphans"] > 0)
            return int(made.status()["orphans"])

    assert asyncio.run(ask()) == 3


def test_a_pool_that_closes_ends_leases_waiters_and_calls() -> None:
    async def close() -> None:
        made = SandboxPool(dataclasses.replace(SMALL, max_open=1))
        lease = await leased(made)
        busy = asyncio.create_task(run(made, lease, 1, "sleep 60"))
        waiting = asyncio.create_task(leased(made))
        await asyncio.sleep(0.1)
        await made.close()
        for lost in (busy, waiting, leased(made)):
            with pytest.raises(SandboxLost):
                await lost
        assert made.status()["open"] == 0

    asyncio.run(close())


# the holder's side


def test_a_pooled_sandbox_is_like_any_other() -> None:
    async def use() -> None:
        async with opened() as made:
            box = await Leasing([made], "test").open(POLICY)
            assert box.tier is Tier.BUBBLEWRAP
            await box.write("a/b", b"x")
            assert await box.read("a/b") == b"x"
            held = await box.snapshot()
            assert (await box.exec(["rm", "-r", "a"], env={"A": "b"}, stdin=b"", deadline_s=5)).code == 0
            await box.restore(held)
            assert (await box.exec("cat a/b")).stdout == b"x"
            with pytest.raises(FileRefused) as refused:
                await box.read("nothing")
            assert (refused.value.path, refused.value.reason) == ("nothing", Reason.MISSING)
            with pytest.raises(ValueError, match="NUL"):
                await box.exec("a\0b")
            with pytest.raises(ValueError, match="NUL"):
                await box.read("a\0b")
            await asyncio.gather(*(box.exec("true") for _ in range(5)))
            await box.close()
            await box.close()
            with pytest.raises(SandboxLost, match="it was closed"):
                await box.exec("true")
            assert made.status()["leased"] == 0

    asyncio.run(use())


def test_a_holder_that_does_nothing_keeps_its_sandbox_while_it_lives() -> None:
    async def use() -> None:
        async with opened(dataclasses.replace(SMALL, lease_s=1.0)) as made:
            box = await Leasing([made], "test").open(POLICY)
            await asyncio.sleep(2.5)
            assert (await box.exec("echo on")).stdout == b"on\n"
            box._beating.cancel()
            await until(lambda: made.status()["expired"] == 1)
            with pytest.raises(SandboxLost):
                await box.exec("true")
            with pytest.raises(SandboxLost):
                await box.read("x")

    asyncio.run(use())


class Gone:
    """A pool that is not there."""

    async def lease(self, *_: Any, **__: Any) -> Lease:
        raise PoolGone("gone")

    renew = call = release = lease


def test_a_pool_that_is_gone_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        async with opened() as made:
            for _ in range(8):
                box = await Leasing([Gone(), made], "test").open(POLICY)  # type: ignore[list-item]
                await box.close()
        monkeypatch.setattr("turnwise.sandbox.pooled.WITHIN_S", 0.5)
        with pytest.raises(PoolGone):
            await Leasing([Gone()], "test").open(POLICY)  # type: ignore[list-item]

    asyncio.run(use())


def test_a_policy_that_is_refused_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UserError, match=r"^env\.kwargs\.sandbox\.memory_mb=1"):
        asyncio.run(Leasing([Gone()], "test").open(SandboxPolicy(memory_mb=1), "env.kwargs.sandbox"))  # type: ignore[list-item]


def test_an_environment_does_not_know_where_its_sandbox_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SandboxPool] = []

    async def take(policy: SandboxPolicy | None, field: str) -> PooledSandbox:
        if not made:
            made.append(SandboxPool(SMALL))
        return await Leasing(made, "test").open(policy, field)

    monkeypatch.setattr(source, "_source", source._source)
    source.use(take)
    before = threading.active_count()
    with BlockingSandbox(POLICY) as box:
        assert box.exec("echo on").stdout == b"on\n"
        assert made[0].status()["leased"] == 1
        asyncio.run_coroutine_threadsafe(made[0].close(), box._loop).result()
    assert threading.active_count() < before + 50


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sandbox.warm=4"], r"sandbox\.warm=4: has no effect because sandbox\.pool=0"),
        (["sandbox.lease_s=4"], r"sandbox\.lease_s=.*has no effect because sandbox\.pool=0"),
        (["sandbox.pool=1", "sandbox.warm=9", "sandbox.max_open=8"], r"sandbox\.warm=9: exceeds sandbox\.max_open=8"),
        (["sandbox.pool=-1"], "is too small"),
        (["sandbox.pool=1", "sandbox.starts_per_s=0"], "is too small"),
        (["sandbox.pools=1"], "sandbox.pool"),
    ],
)
def test_a_configuration_of_pools_that_makes_no_sense_is_refused(words: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_config(None, words)
