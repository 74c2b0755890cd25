"""A pool of sandboxes: some are open before they are wanted, and whoever wants one leases it.

`sandbox/actor.py` makes it an actor, `sandbox/pooled.py` is the holder's side. A lease ends when its holder gives it
back or has been silent for `lease_s`; what was used is never used again as it is: it is closed and a fresh one takes
its place, or where a start is slow it is reset, if it can prove that nothing is left. Starts are limited at once and in
a second, commands at once. Every call that changes something has a number or a key: asked twice, it is done once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from turnwise.config.schema import SandboxConfig
from turnwise.errors import InfraError, TurnwiseError
from turnwise.sandbox import Sandbox, SandboxLost, Tier
from turnwise.sandbox.leftovers import clear
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.pool_measures import Measures
from turnwise.sandbox.tiers import open_sandbox

REPLACED = (Tier.BUBBLEWRAP, Tier.PROCESS)
"""Tiers whose start is cheap: what was used is closed. The others are reset where they can prove it."""

NUM_POLICIES = 4
"""Policies for which sandboxes are kept open, those asked for last."""

CLOSE_S = 30.0
"""Seconds that a sandbox may take to close; one that does not has leaked."""

PAUSE_S = 1.0
"""Seconds after a start that failed before one is tried again without anybody waiting."""

STOCK_S = 0.03
"""Seconds for which a start that nobody waits for is put off, so that it does not hold up who was just given one."""

LOOKS = 8
"""Looks for silent holders within the silence that is allowed."""

REAP_S = 30.0
"""Seconds between two looks for what killed owners left."""

CALLS = frozenset({"exec", "read", "write", "snapshot", "restore"})
"""What a holder may ask of its sandbox."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """A sandbox that is somebody's for a while."""

    lease_id: str
    tier: Tier
    lease_s: float  # silence of its holder after which it ends


class PoolGone(SandboxLost):
    """The pool itself is not there, and what it had is lost; another one may be there soon."""


class Pool(Protocol):
    """A pool as a holder sees it, wherever it is. `PoolGone` from everything where it is gone."""

    async def lease(self, policy: Mapping[str, Any], owner: str, key: str, *, field: str, within_s: float) -> Lease:
        """Return a lease, the same one for the same key. UserError; InfraError if there is none in time."""
        ...

    async def renew(self, lease_id: str) -> bool:
        """Say that the holder is there; False if the lease has ended."""
        ...

    async def call(self, lease_id: str, number: int, method: str, arguments: Mapping[str, Any]) -> Any:
        """Return what a method of the sandbox returns; once a number, and numbers rise."""
        ...

    async def release(self, lease_id: str) -> None:
        """End a lease; doing it twice is harmless."""
        ...


@dataclass(eq=False, slots=True)
class Shelf:
    """The sandboxes of one policy."""

    policy: SandboxPolicy
    where: str  # the field that the policy stands in, for messages
    ready: deque[Sandbox] = field(default_factory=deque)
    waiting: deque[asyncio.Future[Sandbox]] = field(default_factory=deque)
    num_starting: int = 0
    rests_until: float = 0.0  # no start without anybody waiting


@dataclass(eq=False, slots=True)
class Held:
    """A sandbox and its holder."""

    box: Sandbox
    shelf: Shelf
    owner: str
    seen: float  # when its holder last said something
    number: int = 0  # of the last call
    call: asyncio.Task[Any] | None = None


class SandboxPool:
    """See the module. Everything happens on one event loop; `close` ends all of it."""

    def __init__(
        self,
        config: SandboxConfig,
        open_one: Callable[[SandboxPolicy, str], Awaitable[Sandbox]] = open_sandbox,
        reaper: Callable[[], int] = clear,
    ) -> None:
        """`open_one` opens a sandbox, `reaper` clears away what others left; nothing is started yet."""
        self._config, self._open_one, self._reaper = config, open_one, reaper
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()  # by policy, the one asked for last at the end
        self._held: dict[str, Held] = {}
        self._granted: OrderedDict[str, asyncio.Task[Lease]] = OrderedDict()  # by key
        self._num_open = 0  # those that are starting and closing too
        self._starts, self._execs = asyncio.Semaphore(config.starts_at_once), asyncio.Semaphore(config.execs_at_once)
        self._next_start = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._stocking: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._measures = Measures()

    async def lease(self, policy: Mapping[str, Any], owner: str, key: str, *, field: str, within_s: float) -> Lease:
        """Return a lease; see `Pool.lease`."""
        if self._is_closed:
            raise PoolGone("the pool of sandboxes was closed")
        self._watching = self._watching or asyncio.create_task(self._watch())
        if key not in self._granted:
            granting = asyncio.create_task(self._grant(SandboxPolicy(**policy), owner, field, within_s))
            granting.add_done_callback(_heard)
            self._granted[key] = granting
            while len(self._granted) > 2 * self._config.max_open and next(iter(self._granted.values())).done():
                self._granted.popitem(last=False)
        return await asyncio.shield(self._granted[key])

    async def renew(self, lease_id: str) -> bool:
        """Take note that a holder is there."""
        held = self._held.get(lease_id)
        if held is not None:
            held.seen = time.monotonic()
        return held is not None

    async def call(self, lease_id: str, number: int, method: str, arguments: Mapping[str, Any]) -> Any:
        """Do something in a leased sandbox; see `Pool.call`."""
        held = self._held.get(lease_id)
        if held is None:
            raise SandboxLost("the sandbox is gone: its lease has ended")
        if method not in CALLS:
            raise ValueError(f"a sandbox does no {method!r}")
        held.seen = time.monotonic()
        if number > held.number:
            held.number, held.call = number, asyncio.create_task(self._do(held.box, method, arguments))
        if number < held.number or held.call is None:
            raise SandboxLost("the sandbox is gone for a call that came late")
        await asyncio.wait({held.call})
        if held.call.cancelled():
            raise SandboxLost("the sandbox is gone: its lease has ended")
        return held.call.result()

    async def release(self, lease_id: str) -> None:
        """End a lease."""
        self._end(lease_id)

    def status(self) -> dict[str, Any]:
        """Return counts and seconds, as plain JSON."""
        shelves = self._shelves.values()
        return {
            "open": self._num_open,
            "leased": len(self._held),
            "ready": sum(len(shelf.ready) for shelf in shelves),
            "starting": sum(shelf.num_starting for shelf in shelves),
            "waiting": sum(len(shelf.waiting) for shelf in shelves),
            **self._measures.status(),
        }

    async def close(self) -> None:
        """End all leases and close all sandboxes."""
        self._is_closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for shelf in self._shelves.values():
            while shelf.waiting:
                shelf.waiting.popleft().set_exception(PoolGone("the pool of sandboxes was closed"))
            while shelf.ready:
                self._spawn(self._close(shelf.ready.popleft()))
        for lease_id in list(self._held):
            self._end(lease_id)
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _grant(self, policy: SandboxPolicy, owner: str, field: str, within_s: float) -> Lease:
        shelf, began = self._shelf(policy, field), time.monotonic()
        wanted: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        shelf.waiting.append(wanted)
        self._provide()
        await asyncio.wait({wanted}, timeout=within_s)
        if not wanted.done():
            shelf.waiting.remove(wanted)
            full = f"{len(self._held)} leased, {self._num_open} of sandbox.max_open={self._config.max_open} open"
            raise InfraError(f"no sandbox was to be had within {within_s:g} s: {full}")
        box = wanted.result()
        lease_id = secrets.token_hex(16)
        self._held[lease_id] = Held(box, shelf, owner, time.monotonic())
        self._measures.leased(time.monotonic() - began)
        return Lease(lease_id=lease_id, tier=box.tier, lease_s=self._config.lease_s)

    def _shelf(self, policy: SandboxPolicy, field: str) -> Shelf:
        """Return the shelf of a policy; what is on the oldest ones is closed where there are too many."""
        name = json.dumps(vars(policy), sort_keys=True)
        shelf = self._shelves.setdefault(name, Shelf(policy, field))
        self._shelves.move_to_end(name)
        for old, other in list(self._shelves.items())[:-NUM_POLICIES]:
            while other.ready:
                self._spawn(self._close(other.ready.popleft()))
            if not other.waiting and not other.num_starting:
                del self._shelves[old]
        return shelf

    def _provide(self) -> None:
        """Give what is ready to who waits, and start as many as are wanted and as there is room for."""
        shelves = [] if self._is_closed else list(reversed(self._shelves.values()))
        for shelf in shelves:
            while shelf.ready and shelf.waiting:
                shelf.waiting.popleft().set_result(shelf.ready.popleft())
        for shelf in shelves:
            while len(shelf.waiting) > shelf.num_starting and self._has_room(shelf):
                self._start(shelf)
        if self._stocking is None and not self._is_closed:
            self._stocking = asyncio.get_running_loop().call_later(STOCK_S, self._stock)

    def _stock(self) -> None:
        """Start what should be open before it is wanted."""
        self._stocking = None
        shelves = [] if self._is_closed else list(reversed(self._shelves.values()))
        for shelf in shelves[:NUM_POLICIES]:
            while self._wants_more(shelf):
                self._start(shelf)

    def _wants_more(self, shelf: Shelf) -> bool:
        """Whether another one should be open before it is wanted."""
        num_coming = len(shelf.ready) + shelf.num_starting - len(shelf.waiting)
        is_resting = time.monotonic() < shelf.rests_until
        return num_coming < self._config.warm and self._num_open < self._config.max_open and not is_resting

    def _has_room(self, shelf: Shelf) -> bool:
        """Whether another one may be started for who waits; one that nobody waits for makes room."""
        if self._num_open < self._config.max_open:
            return True
        idle = next((other for other in self._shelves.values() if other is not shelf and other.ready), None)
        if idle is not None:
            self._spawn(self._close(idle.ready.popleft()))  # there is room when it is closed
        return False

    def _start(self, shelf: Shelf) -> None:
        self._num_open += 1
        shelf.num_starting += 1
        self._spawn(self._started(shelf))

    async def _started(self, shelf: Shelf) -> None:
        """Open one and put it on its shelf; an error goes to who has waited longest."""
        try:
            async with self._starts:
                await self._pace()
                began = time.monotonic()
                box = await self._open_one(shelf.policy, shelf.where)
        except Exception as error:  # noqa: BLE001 - a border: what a start can raise is told to who waits
            self._measures.num_failed_starts += 1
            self._num_open -= 1
            shelf.rests_until = time.monotonic() + PAUSE_S
            asyncio.get_running_loop().call_later(PAUSE_S, self._provide)
            if shelf.waiting:
                told = error if isinstance(error, TurnwiseError) else SandboxLost(str(error))
                shelf.waiting.popleft().set_exception(told)
        else:
            self._measures.started(time.monotonic() - began)
            shelf.ready.append(box)
            if self._is_closed:
                self._spawn(self._close(shelf.ready.pop()))
        finally:
            shelf.num_starting -= 1
            self._provide()

    async def _pace(self) -> None:
        """Wait until another start is due."""
        due = max(time.monotonic(), self._next_start)
        self._next_start = due + 1.0 / self._config.starts_per_s
        await asyncio.sleep(due - time.monotonic())

    async def _do(self, box: Sandbox, method: str, arguments: Mapping[str, Any]) -> Any:
        async with self._execs if method == "exec" else contextlib.nullcontext():
            return await getattr(box, method)(**arguments)

    def _end(self, lease_id: str) -> None:
        held = self._held.pop(lease_id, None)
        if held is None:
            return
        if held.call is not None and not held.call.done():
            held.call.cancel()  # which ends the sandbox
        self._spawn(self._retire(held))

    async def _retire(self, held: Held) -> None:
        """Put it back as new where it can prove that it is; else close it, which makes room for another."""
        if held.call is not None:
            await asyncio.gather(held.call, return_exceptions=True)
        if await self._is_reset(held):
            self._measures.num_reset += 1
            held.shelf.ready.append(held.box)
            self._provide()
        else:
            self._measures.num_replaced += 1
            await self._close(held.box)

    async def _is_reset(self, held: Held) -> bool:
        """Reset what was used where that is cheaper than another one; whether it is as new and wanted."""
        shelf, box = held.shelf, held.box
        if box.tier in REPLACED or self._is_closed:
            return False
        try:
            is_clean = await box.reset()
        except TurnwiseError:
            return False
        is_wanted = bool(shelf.waiting) or len(shelf.ready) + shelf.num_starting < self._config.warm
        return is_clean and is_wanted and shelf in self._shelves.values() and not self._is_closed

    async def _close(self, box: Sandbox) -> None:
        try:
            await asyncio.wait_for(box.close(), CLOSE_S)
        except Exception:  # noqa: BLE001 - counted: it may have left something
            self._measures.num_leaks += 1
        self._num_open -= 1
        self._provide()

    async def _watch(self) -> None:
        """End the leases of silent holders, and clear away what killed owners left."""
        next_reap = 0.0
        while True:
            if time.monotonic() >= next_reap:
                self._measures.num_orphans += await asyncio.to_thread(self._reaper)
                next_reap = time.monotonic() + REAP_S
            silent_since = time.monotonic() - self._config.lease_s
            for lease_id in [name for name, held in self._held.items() if held.seen < silent_since]:
                self._measures.num_expired += 1
                self._end(lease_id)
            await asyncio.sleep(min(self._config.lease_s / LOOKS, REAP_S))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _heard(task: asyncio.Task[Lease]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
