"""Blocking calls from the event loop, each kind in a daemon thread of its own, with a time-out that always holds.

Environments and scorers are run through `CallThread`. A thread cannot be killed: one whose call runs out of time is
abandoned and counted in `LostThreads` until its call comes back, if it ever does.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


class CallTimeoutError(TimeoutError):
    """Our own time-out, as opposed to one that the called code raised."""

    def __init__(self, timeout_s: float) -> None:
        """Say how long was waited."""
        super().__init__(f"time-out after {timeout_s:.1f} s")


class LostThreads:
    """Counts abandoned threads."""

    def __init__(self) -> None:
        """Start at none."""
        self._lock = threading.Lock()
        self.now = 0  # abandoned, and their call has not come back
        self.total = 0  # ever abandoned

    def add(self) -> None:
        """Count a thread that was abandoned."""
        with self._lock:
            self.now += 1
            self.total += 1

    def remove(self) -> None:
        """Count an abandoned thread that has come back."""
        with self._lock:
            self.now -= 1


Outcome = tuple[Any, BaseException | None]
"""What a call returned, or what it raised."""


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Outcome]


class CallThread:
    """Runs one call after another in one daemon thread. Not for concurrent calls."""

    def __init__(self, name: str, lost: LostThreads, at_end: Callable[[], None] = lambda: None) -> None:
        """`at_end` runs in the thread when it ends, after an abandoned call has come back too."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lost, self._at_end = lost, at_end
        self.is_over = False  # closed or abandoned: takes no further calls
        self._is_abandoned = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def call(self, function: Callable[[], Value], timeout_s: float) -> Value:
        """Return what `function` returns or raises; CallTimeoutError, or a cancellation, abandons the thread."""
        assert not self.is_over, "a call to a thread that is over"
        loop = asyncio.get_running_loop()
        job = _Job(function, loop, loop.create_future())
        self._jobs.put(job)
        try:
            async with asyncio.timeout(timeout_s):
                value, error = await job.future
        except TimeoutError:
            self._abandon()
            raise CallTimeoutError(timeout_s) from None
        except asyncio.CancelledError:
            self._abandon()
            raise
        if error is not None:
            # An exit raised in a thread must not end the event loop.
            raise error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        return value

    def close(self) -> None:
        """Let the thread end after what it is doing; twice is once."""
        if not self.is_over:
            self.is_over = True
            self._jobs.put(None)

    def _abandon(self) -> None:
        self._is_abandoned = True
        self._lost.add()
        self.close()

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                _run(job)
            self._at_end()
        finally:
            if self._is_abandoned:
                self._lost.remove()


def _run(job: _Job) -> None:
    value, error = None, None
    try:
        value = job.function()
    except BaseException as raised:  # noqa: BLE001 - handed to whoever awaits the call
        error = raised
    try:
        job.loop.call_soon_threadsafe(_settle, job.future, (value, error))
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
