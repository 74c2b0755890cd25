"""Which requests an engine runs next. Pure logic without torch, threads or clocks.

`ContinuousBatching` admits as soon as there is room. `LockStepBatching` is for runs that must be bit-identical: it lets
a batch begin only when every open session has a request, in an order that does not depend on arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A request that waits."""

    key: int  # unique in an engine
    session: str
    order: int


class Batching(Protocol):
    """Decides what runs next. `now` is a monotonic time in seconds."""

    gather_timeouts: int  # batches that began without a session that was waited for

    @property
    def num_waiting(self) -> int:
        """Tickets added and neither taken nor removed."""

    @property
    def is_splitting(self) -> bool:
        """Whether a part of a batch is still to come: until then no closed session's slot may be given away."""

    def open(self, sessions: Iterable[str], now: float) -> None:
        """Announce sessions."""

    def close(self, sessions: Iterable[str], now: float) -> list[Ticket]:
        """Forget sessions and return their tickets that had not been taken."""

    def add(self, ticket: Ticket, now: float) -> None:
        """Let a ticket wait."""

    def discard(self, keys: Collection[int]) -> list[Ticket]:
        """Remove waiting tickets by key and return those found."""

    def take(self, now: float, running: Collection[str], room: int) -> list[Ticket]:
        """Return tickets to start now: at most `room`, none of a session in `running`."""

    def wait_s(self, now: float) -> float | None:
        """Return seconds after which `take` may answer differently by itself; None: only after another call."""


class ContinuousBatching:
    """First come, first served; one running request a session."""

    def __init__(self) -> None:
        """Start empty."""
        self.gather_timeouts = 0
        self._waiting: deque[Ticket] = deque()

    @property
    def num_waiting(self) -> int:
        """Tickets added and neither taken nor removed."""
        return len(self._waiting)

    @property
    def is_splitting(self) -> bool:
        """Never."""
        return False

    def open(self, sessions: Iterable[str], now: float) -> None:
        """Nothing to do: nobody is waited for."""

    def close(self, sessions: Iterable[str], now: float) -> list[Ticket]:
        """Return the waiting tickets of these sessions."""
        closed = set(sessions)
        return self.discard([ticket.key for ticket in self._waiting if ticket.session in closed])

    def add(self, ticket: Ticket, now: float) -> None:
        """Queue a ticket."""
        self._waiting.append(ticket)

    def discard(self, keys: Collection[int]) -> list[Ticket]:
        """Remove waiting tickets by key and return those found."""
        wanted = set(keys)
        gone = [ticket for ticket in self._waiting if ticket.key in wanted]
        self._waiting = deque(ticket for ticket in self._waiting if ticket.key not in wanted)
        return gone

    def take(self, now: float, running: Collection[str], room: int) -> list[Ticket]:
        """Return the oldest tickets whose sessions are idle."""
        taken: list[Ticket] = []
        left: deque[Ticket] = deque()
        busy = set(running)
        for ticket in self._waiting:
            if len(taken) < room and ticket.session not in busy:
                taken.append(ticket)
                busy.add(ticket.session)
            else:
                left.append(ticket)
        self._waiting = left
        return taken

    def wait_s(self, now: float) -> float | None:
        """Return None: only another call changes anything."""
        return None


class LockStepBatching:
    """A barrier over the open sessions, and no admission while a batch runs.

    A session that has no request `gather_s` after the last arrival is late: the batch begins without it, and no batch
    waits for it again until one of its requests has run. Batches larger than the room are run as parts, in order.
    """

    def __init__(self, gather_s: float) -> None:
        """`gather_s`: seconds without any arrival after which a batch begins incomplete."""
        self.gather_s = gather_s
        self.gather_timeouts = 0
        self._open: set[str] = set()
        self._late: set[str] = set()
        self._pending: dict[str, deque[Ticket]] = {}
        self._batch: deque[Ticket] = deque()  # the rest of a batch that exceeds the room
        self._touched = float("-inf")

    @property
    def num_waiting(self) -> int:
        """Tickets added and neither taken nor removed."""
        return len(self._batch) + sum(len(queue) for queue in self._pending.values())

    @property
    def is_splitting(self) -> bool:
        """Whether a batch exceeded the room and its rest waits."""
        return bool(self._batch)

    def open(self, sessions: Iterable[str], now: float) -> None:
        """Wait for these sessions from now on."""
        self._open.update(sessions)
        self._touched = now

    def close(self, sessions: Iterable[str], now: float) -> list[Ticket]:
        """Stop waiting for these sessions and return their waiting tickets."""
        closed = set(sessions)
        self._open -= closed
        self._late -= closed
        self._touched = now
        return self.discard([ticket.key for ticket in self._tickets() if ticket.session in closed])

    def add(self, ticket: Ticket, now: float) -> None:
        """Let a ticket wait for the barrier."""
        self._pending.setdefault(ticket.session, deque()).append(ticket)
        self._touched = now

    def discard(self, keys: Collection[int]) -> list[Ticket]:
        """Remove waiting tickets by key and return those found."""
        wanted = set(keys)
        gone = [ticket for ticket in self._tickets() if ticket.key in wanted]
        self._batch = deque(ticket for ticket in self._batch if ticket.key not in wanted)
        for session in {ticket.session for ticket in gone} & self._pending.keys():
            kept = deque(ticket for ticket in self._pending.pop(session) if ticket.key not in wanted)
            if kept:
                self._pending[session] = kept
        return gone

    def take(self, now: float, running: Collection[str], room: int) -> list[Ticket]:
        """Return the next batch, or its next part; nothing while one runs or the barrier is incomplete."""
        if running:
            self._touched = now  # sessions that get their answer at the end of a batch have `gather_s` from then
            return []
        if not self._batch and self._pending:
            self._gather(now)
        return [self._batch.popleft() for _ in range(min(room, len(self._batch)))]

    def wait_s(self, now: float) -> float | None:
        """Return seconds until the barrier gives up on late sessions."""
        if self._batch:
            return 0.0
        return max(0.0, self._touched + self.gather_s - now) if self._pending else None

    def _gather(self, now: float) -> None:
        missing = self._open - self._late - self._pending.keys()
        if missing and now < self._touched + self.gather_s:
            return
        if missing:
            self.gather_timeouts += 1
            self._late |= missing
        self._late -= self._pending.keys()
        firsts = [queue.popleft() for queue in self._pending.values()]
        self._pending = {session: queue for session, queue in self._pending.items() if queue}
        self._batch.extend(sorted(firsts, key=lambda ticket: (ticket.order, ticket.session)))

    def _tickets(self) -> list[Ticket]:
        return [*self._batch, *(ticket for queue in self._pending.values() for ticket in queue)]
