"""What rollout workers hold instead of engines: one awaitable call a request, sent in as few messages as possible.

All requests that are made within one turn of the event loop, with the sessions opened and closed until then, travel in
one streaming call to each engine. A session always talks to the same engine. `EngineClient` talks to Ray actors,
`LocalEngineClient` to an engine in the same process. A client belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from ray.exceptions import RayError

from turnwise.engine import Completion, Engine, Request
from turnwise.engine.loop import Result
from turnwise.engine.sessions import Roster, SessionLedger
from turnwise.errors import EngineError
from turnwise.records import Failure

POLL_S = 5.0
"""Seconds after which a silent stream is looked at: it is dropped once nobody waits for it any more."""

TELL_AFTER_S = 0.01
"""Seconds that opened and closed sessions wait for a request to travel with."""


class Link(Protocol):
    """The way to one engine."""

    def stream(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
        """Tell the sessions and yield results; EngineError if the engine is lost."""

    async def tell(self, roster: Roster) -> None:
        """Tell the sessions only; EngineError if the engine is lost."""


Waiting = tuple[Request, asyncio.Future[Completion]]


class Lane:
    """Everything between one client and one engine."""

    def __init__(self, link: Link, client: str) -> None:
        """Nothing is sent before the first change."""
        self._link, self._client = link, client
        self._start, self._count = time.time_ns(), 0
        self._sessions: dict[str, None] = {}  # in the order of their opening
        self._waiting: list[Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.TimerHandle | asyncio.Handle | None = None

    def open(self, session: str) -> None:
        """Announce a session with the next message."""
        self._sessions[session] = None
        self._schedule(TELL_AFTER_S)

    def close(self, session: str) -> None:
        """Forget a session with the next message; its requests that are not sent yet are aborted."""
        self._sessions.pop(session, None)
        for request, future in [entry for entry in self._waiting if entry[0].session == session]:
            self._waiting.remove((request, future))
            if not future.done():
                future.set_result(Completion.aborted())
        self._schedule(TELL_AFTER_S)

    def submit(self, request: Request) -> asyncio.Future[Completion]:
        """Send a request with the next message."""
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._schedule(0.0)
        self._waiting.append((request, future))
        return future

    def _schedule(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._flushing is not None and delay_s == 0:
            self._flushing.cancel()
            self._flushing = None
        if self._flushing is None:
            self._flushing = loop.call_later(delay_s, self._flush) if delay_s else loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self._count += 1
        roster = Roster(client=self._client, number=(self._start, self._count), sessions=tuple(self._sessions))
        batch = [entry for entry in self._waiting if not entry[1].done()]
        self._waiting = []
        task = asyncio.create_task(self._send(roster, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, roster: Roster, batch: Sequence[Waiting]) -> None:
        try:
            if batch:
                await _receive(self._link.stream(roster, [request for request, _ in batch]), [f for _, f in batch])
            else:
                await asyncio.wait_for(self._link.tell(roster), POLL_S)
        except EngineError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - a border: whatever broke the stream fails the requests in it
            _fail(batch, EngineError(f"{type(error).__name__}: {error}"))

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything said so far has been delivered."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flush()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)


class EngineClient:
    """Talks to engine actors; the engines, as rollouts see them."""

    def __init__(self, engines: Sequence[Any], name: str | None = None) -> None:
        """`engines` are handles of `EngineActor`s. A restarted client of one `name` replaces the former's sessions."""
        client = name or uuid.uuid4().hex
        self._lanes = [Lane(link, client) for link in self._links(engines)]

    def open(self, sessions: Sequence[str]) -> None:
        """Announce episodes: before their first request, and before the episodes that they follow are closed."""
        for session in sessions:
            self._lane(session).open(session)

    def close(self, sessions: Sequence[str]) -> None:
        """Forget episodes; their requests are aborted."""
        for session in sessions:
            self._lane(session).close(session)

    async def generate(self, request: Request, timeout_s: float) -> Completion:
        """Return one sampled action; EngineError if the engine fails, dies or takes longer than `timeout_s`."""
        try:
            return await asyncio.wait_for(self._lane(request.session).submit(request), timeout_s)
        except TimeoutError:
            raise EngineError(f"no answer from the engine within {timeout_s:g} s") from None

    async def drain(self, timeout_s: float = POLL_S) -> None:
        """Wait until what was opened and closed so far is delivered; requests in progress are waited for, too."""
        await asyncio.gather(*(lane.drain(timeout_s) for lane in self._lanes))

    def _links(self, engines: Sequence[Any]) -> list[Link]:
        return [ActorLink(engine) for engine in engines]

    def _lane(self, session: str) -> Lane:
        # by the name alone, so that equal runs place their sessions equally
        return self._lanes[zlib.crc32(session.encode()) % len(self._lanes)]


class LocalEngineClient(EngineClient):
    """Talks to engines in the same process: for tests, small evaluations and notebooks."""

    def __init__(self, *engines: Engine) -> None:
        """Use these engines; the caller shuts them down."""
        super().__init__(engines)

    def _links(self, engines: Sequence[Any]) -> list[Link]:
        return [LocalLink(engine) for engine in engines]


class ActorLink:
    """The way to an `EngineActor`."""

    def __init__(self, actor: Any) -> None:
        """`actor` is its handle."""
        self._actor = actor

    async def stream(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
        """One streaming call; EngineError if the actor is lost."""
        try:
            async for reference in self._actor.generate.options(num_returns="streaming").remote(roster, requests):
                yield await reference
        except RayError as error:
            raise _lost(error) from error

    async def tell(self, roster: Roster) -> None:
        """One call; EngineError if the actor is lost."""
        try:
            await self._actor.announce.remote(roster)
        except RayError as error:
            raise _lost(error) from error


class LocalLink:
    """The way to an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        """`engine` is called directly."""
        self._engine, self._ledger = engine, SessionLedger()

    async def stream(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
        """Tell the sessions, then pass results on."""
        await self.tell(roster)
        async for chunk in self._engine.generate(requests):
            yield chunk

    async def tell(self, roster: Roster) -> None:
        """Open what is new, then close what is gone."""
        opened, closed = self._ledger.apply(roster)
        self._engine.open(opened)
        self._engine.close(closed)


async def _receive(
    results: AsyncIterator[list[tuple[int, Result]]], futures: Sequence[asyncio.Future[Completion]]
) -> None:
    """Settle futures as results come; return early once nobody waits. EngineError if results are missing in the end."""
    while not all(future.done() for future in futures):
        chunk = asyncio.ensure_future(anext(results, None))
        while not chunk.done() and not all(future.done() for future in futures):
            await asyncio.wait([chunk], timeout=POLL_S)
        if not chunk.done():
            chunk.cancel()
            return
        got = chunk.result()
        if got is None:
            raise EngineError("the engine ended the stream without all results")
        for index, result in got:
            _settle(futures[index], result)


def _settle(future: asyncio.Future[Completion], result: Result) -> None:
    if future.done():
        return
    if isinstance(result, Failure):
        future.set_exception(EngineError(result.cause))
    else:
        future.set_result(result)


def _fail(batch: Sequence[Waiting], error: EngineError) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def _lost(error: RayError) -> EngineError:
    return EngineError(f"the engine is lost ({type(error).__name__})")
