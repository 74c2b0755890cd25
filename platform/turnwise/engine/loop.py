"""`SteppedEngine`: an `Engine` made of a stepper that computes and a batching that decides, in one thread of its own.

The thread owns both; callers put commands into its inbox and are answered on their own event loops, which therefore
never block on computing. The hf engine and the scripted one of `turnwise.testing` are built on this.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from turnwise.engine import Completion, Request, WeightReceipt
from turnwise.engine.batching import Batching, Ticket
from turnwise.errors import EngineError, TurnwiseError, WeightProofError, failure_of
from turnwise.records import Failure

POLL_S = 1.0
"""Longest sleep of any wait here; each then looks whether the thread still lives."""

JOIN_S = 10.0
"""Seconds that `shutdown` waits for the step in progress."""

Result = Completion | Failure


class Stepper(Protocol):
    """Computes. All calls come from the engine's thread."""

    num_slots: int  # requests that run at once
    num_sampled: int  # tokens sampled so far

    def prepare(self) -> None:
        """Set up the calling thread; called once, first."""

    def start(self, key: int, request: Request) -> None:
        """Begin a request; EngineError if it is impossible."""

    def step(self) -> list[tuple[int, Result]]:
        """Sample one token for every running request and return those that ended; may raise anything."""

    def stop(self, keys: Sequence[int]) -> list[tuple[int, Completion]]:
        """End running requests early and return what they have, with finish ABORT."""

    def forget(self, sessions: Sequence[str]) -> None:
        """Free what is cached for sessions; none of their requests runs."""

    def reset(self) -> None:
        """Forget every running request and all caches, after `step` raised."""

    def load(self, version: int, checksum: str, state: Mapping[str, np.ndarray]) -> None:
        """Hold new weights from the next step on, running requests included; WeightProofError."""

    def held(self) -> tuple[int, str]:
        """Return version and checksum of the weights."""


@dataclass(slots=True)
class Call:
    """One `generate` and where its results go."""

    loop: asyncio.AbstractEventLoop
    results: asyncio.Queue[list[tuple[int, Result]]]

    def deliver(self, chunk: list[tuple[int, Result]]) -> None:
        """Hand over results, from any thread; a caller that is gone gets nothing."""
        try:
            self.loop.call_soon_threadsafe(self.results.put_nowait, chunk)
        except RuntimeError:  # its event loop is closed
            return


@dataclass(slots=True)
class Entry:
    """A request on its way through the engine."""

    call: Call
    index: int
    request: Request


class SteppedEngine:
    """Implements `Engine` around a stepper; see there for what the methods promise."""

    def __init__(self, stepper: Stepper, batching: Batching) -> None:
        """Start the thread."""
        self._stepper, self._batching = stepper, batching
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._is_stopped = False
        self._refusal = ""  # why nothing is sampled at present
        self._next_key = 0
        self._entries: dict[int, Entry] = {}  # waiting and running
        self._running: dict[int, str] = {}  # key -> session
        self._closed: list[str] = []  # sessions whose caches are still to be freed
        self._busy_s = self._waited_s = 0.0
        self._thread = threading.Thread(target=self._run, name="turnwise-engine", daemon=True)
        self._thread.start()

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
        """Yield (index, completion or failure) as they end; closing the iterator aborts what is left."""
        call = Call(asyncio.get_running_loop(), asyncio.Queue())
        left = len(requests)
        self._put(lambda: self._accept(call, requests))
        try:
            while left:
                try:
                    chunk = await asyncio.wait_for(call.results.get(), POLL_S)
                except TimeoutError:
                    self._check_alive(call)
                    continue
                left -= len(chunk)
                yield chunk
        finally:
            if left:
                self._put(lambda: self._cancel(call))

    def open(self, sessions: Sequence[str]) -> None:
        """Announce episodes."""
        self._put(lambda: self._batching.open(list(sessions), time.monotonic()))

    def close(self, sessions: Sequence[str]) -> None:
        """Forget episodes and abort their requests."""
        self._put(lambda: self._close(list(sessions)))

    async def update_weights(self, version: int, checksum: str, state: Mapping[str, np.ndarray]) -> WeightReceipt:
        """Load weights between two steps and prove it."""
        done: Future[WeightReceipt] = Future()
        self._put(lambda: self._update(done, version, checksum, state))
        waiting = asyncio.wrap_future(done)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=POLL_S)
            if not waiting.done() and not self._thread.is_alive():
                raise EngineError("the engine is shut down")
        return waiting.result()

    def status(self) -> dict[str, Any]:
        """Return what the engine holds and has done; seconds add up from its start."""
        version, checksum = self._stepper.held()
        return {
            "version": version,
            "checksum": checksum,
            "running": len(self._running),
            "waiting": self._batching.num_waiting,
            "tokens_sampled": self._stepper.num_sampled,
            "busy_s": self._busy_s,
            "waited_s": self._waited_s,
            "gather_timeouts": self._batching.gather_timeouts,
            "refuses": self._refusal or ("" if self._thread.is_alive() else "the engine is shut down"),
        }

    def shutdown(self) -> None:
        """Stop sampling; running requests are aborted, later ones fail."""
        self._put(self._stop)
        self._thread.join(JOIN_S)

    def _put(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(command)
            self._wake.notify()

    def _check_alive(self, call: Call) -> None:
        if not self._thread.is_alive() and call.results.empty():
            raise EngineError("the engine is shut down")

    # From here on everything runs in the engine's thread.

    def _run(self) -> None:
        self._stepper.prepare()
        while not self._is_stopped:
            self._obey(self._sleep_s())
            if not self._is_stopped:
                self._admit()
                self._step()

    def _sleep_s(self) -> float:
        if self._running:
            return 0.0
        wait_s = self._batching.wait_s(time.monotonic())
        return POLL_S if wait_s is None else min(wait_s, POLL_S)

    def _obey(self, timeout_s: float) -> None:
        began = time.monotonic()
        with self._wake:
            if not self._inbox and timeout_s > 0:
                self._wake.wait(timeout_s)
            commands = list(self._inbox)
            self._inbox.clear()
        self._waited_s += time.monotonic() - began
        for command in commands:
            command()

    def _accept(self, call: Call, requests: Sequence[Request]) -> None:
        if self._refusal:
            failure = failure_of(EngineError(self._refusal), "generate")
            call.deliver([(index, failure) for index in range(len(requests))])
            return
        now = time.monotonic()
        for index, request in enumerate(requests):
            key = self._next_key = self._next_key + 1
            self._entries[key] = Entry(call, index, request)
            self._batching.add(Ticket(key=key, session=request.session, order=request.order), now)

    def _admit(self) -> None:
        room = self._stepper.num_slots - len(self._running)
        impossible: list[tuple[int, Result]] = []
        if self._closed and not self._batching.is_splitting:
            self._stepper.forget(self._closed)
            self._closed = []
        for ticket in self._batching.take(time.monotonic(), set(self._running.values()), room):
            try:
                self._stepper.start(ticket.key, self._entries[ticket.key].request)
                self._running[ticket.key] = ticket.session
            except EngineError as error:
                impossible.append((ticket.key, failure_of(error, "generate")))
        self._finish(impossible)

    def _step(self) -> None:
        if not self._running:
            return
        began = time.monotonic()
        try:
            self._finish(self._stepper.step())
        except Exception as error:  # noqa: BLE001 - whatever the model raises becomes a failure of the running requests
            failure = failure_of(EngineError(f"{type(error).__name__}: {error}"), "generate")
            self._finish([(key, failure) for key in self._running])
            self._stepper.reset()
        self._busy_s += time.monotonic() - began

    def _finish(self, results: Sequence[tuple[int, Result]]) -> None:
        chunks: dict[int, tuple[Call, list[tuple[int, Result]]]] = {}
        for key, result in results:
            entry = self._entries.pop(key)
            self._running.pop(key, None)
            chunks.setdefault(id(entry.call), (entry.call, []))[1].append((entry.index, result))
        for call, chunk in chunks.values():
            call.deliver(chunk)

    def _close(self, sessions: list[str]) -> None:
        waiting = self._batching.close(sessions, time.monotonic())
        self._finish([(ticket.key, Completion.aborted()) for ticket in waiting])
        closed = set(sessions)
        self._finish(self._stepper.stop([key for key, session in self._running.items() if session in closed]))
        self._closed += sessions

    def _cancel(self, call: Call) -> None:
        keys = [key for key, entry in self._entries.items() if entry.call is call]
        self._batching.discard(keys)
        self._stepper.stop([key for key in keys if key in self._running])
        for key in keys:
            del self._entries[key]
            self._running.pop(key, None)

    def _update(
        self, done: Future[WeightReceipt], version: int, checksum: str, state: Mapping[str, np.ndarray]
    ) -> None:
        began = time.monotonic()
        try:
            if self._refusal or self._stepper.held() != (version, checksum):
                self._stepper.load(version, checksum, state)
        except TurnwiseError as error:
            self._refuse(f"weights {version} are not proven: {error}")
            done.set_exception(error)
            return
        except Exception as error:  # noqa: BLE001 - the loading failed in a way nobody foresaw: nothing is proven
            self._refuse(f"weights {version} are not proven: {type(error).__name__}: {error}")
            done.set_exception(WeightProofError(self._refusal))
            return
        self._refusal = ""
        seconds = time.monotonic() - began
        done.set_result(WeightReceipt(version=version, checksum=self._stepper.held()[1], seconds=seconds))

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        failure = failure_of(EngineError(reason), "generate")
        self._batching.discard(list(self._entries))
        self._stepper.stop(list(self._running))
        self._finish([(key, failure) for key in list(self._entries)])

    def _stop(self) -> None:
        self._is_stopped = True
        self._refusal = "the engine is shut down"
        self._finish(self._stepper.stop(list(self._running)))
        self._finish([(key, Completion.aborted()) for key in list(self._entries)])
        self._stepper.reset()
