"""Which requests run next: the barrier of lock-step, and continuous admission."""

from __future__ import annotations

import pytest

from turnwise.engine.batching import ContinuousBatching, LockStepBatching, Ticket


def ticket(key: int, session: str | None = None, order: int = 0) -> Ticket:
    return Ticket(key=key, session=session or f"s{key}", order=order)


def keys(tickets: list[Ticket]) -> list[int]:
    return [each.key for each in tickets]


def test_continuous_admits_the_oldest_up_to_the_room() -> None:
    batching = ContinuousBatching()
    for key in range(4):
        batching.add(ticket(key), 0.0)
    assert keys(batching.take(0.0, set(), 3)) == [0, 1, 2]
    assert batching.num_waiting == 1
    assert keys(batching.take(0.0, set(), 3)) == [3]


def test_continuous_runs_one_request_a_session_at_a_time() -> None:
    batching = ContinuousBatching()
    for key, session in enumerate(["a", "a", "b"]):
        batching.add(ticket(key, session), 0.0)
    assert keys(batching.take(0.0, {"b"}, 9)) == [0]
    assert keys(batching.take(0.0, {"a"}, 9)) == [2]
    assert keys(batching.take(0.0, set(), 9)) == [1]


def test_continuous_closing_returns_what_waited() -> None:
    batching = ContinuousBatching()
    batching.add(ticket(1, "a"), 0.0)
    batching.add(ticket(2, "b"), 0.0)
    assert keys(batching.close(["a", "never seen"], 0.0)) == [1]
    assert keys(batching.take(0.0, set(), 9)) == [2]


def test_the_barrier_waits_for_every_open_session_and_sorts_by_order() -> None:
    batching = LockStepBatching(0.5)
    batching.open(["s1", "s2", "s3"], 0.0)
    batching.add(ticket(3, order=1), 0.1)
    batching.add(ticket(1, order=3), 0.1)
    assert batching.take(0.2, set(), 9) == []
    batching.add(ticket(2, order=2), 0.3)
    assert keys(batching.take(0.3, set(), 9)) == [3, 2, 1]
    assert batching.gather_timeouts == 0


def test_nothing_is_admitted_while_a_batch_runs() -> None:
    batching = LockStepBatching(0.5)
    batching.add(ticket(1), 0.0)
    assert batching.take(9.0, {"s0"}, 9) == []
    assert keys(batching.take(9.0, set(), 9)) == [1]


def test_a_session_that_never_shows_up_is_waited_for_once() -> None:
    batching = LockStepBatching(0.5)
    batching.open(["s1", "lost"], 0.0)
    batching.add(ticket(1), 1.0)
    assert batching.take(1.4, set(), 9) == []
    assert batching.wait_s(1.4) == pytest.approx(0.1)
    assert keys(batching.take(1.5, set(), 9)) == [1]
    batching.add(ticket(2, "s1"), 2.0)
    assert keys(batching.take(2.0, set(), 9)) == [2], "the second batch does not wait"
    assert batching.gather_timeouts == 1


def test_a_late_session_that_shows_up_is_waited_for_again() -> None:
    batching = LockStepBatching(0.5)
    batching.open(["s1", "late"], 0.0)
    batching.add(ticket(1, "s1"), 0.0)
    assert keys(batching.take(0.6, set(), 9)) == [1]
    batching.add(ticket(2, "late"), 0.7)
    assert batching.take(0.7, set(), 9) == [], "s1 is waited for"
    batching.add(ticket(3, "s1"), 0.8)
    assert sorted(keys(batching.take(0.8, set(), 9))) == [2, 3]
    batching.add(ticket(4, "s1"), 0.9)
    assert batching.take(0.9, set(), 9) == [], "late is waited for again"


def test_closing_a_session_frees_the_barrier() -> None:
    batching = LockStepBatching(60.0)
    batching.open(["s1", "s2"], 0.0)
    batching.add(ticket(1), 0.0)
    assert batching.take(0.0, set(), 9) == []
    batching.close(["s2"], 0.0)
    assert keys(batching.take(0.0, set(), 9)) == [1]


def test_a_batch_larger_than_the_room_runs_in_parts_in_order() -> None:
    batching = LockStepBatching(0.5)
    for key in (5, 4, 3, 2, 1):
        batching.add(ticket(key, order=key), 0.0)
    assert keys(batching.take(0.0, set(), 2)) == [1, 2]
    batching.add(ticket(6, "s1", order=0), 0.0)
    assert batching.take(0.0, {"s1", "s2"}, 2) == []
    assert keys(batching.take(0.0, set(), 2)) == [3, 4]
    assert keys(batching.close(["s5"], 0.0)) == [5]
    assert keys(batching.take(0.0, set(), 2)) == [6]


def test_discarded_tickets_never_run() -> None:
    batching = LockStepBatching(0.5)
    batching.add(ticket(1, "a"), 0.0)
    batching.add(ticket(2, "a"), 0.0)
    assert keys(batching.discard([1])) == [1]
    assert batching.num_waiting == 1
    assert keys(batching.take(0.0, set(), 9)) == [2]
