"""Sessions survive messages that come late, twice or never."""

from __future__ import annotations

from turnwise.engine.sessions import Roster, SessionLedger


def roster(number: int, *sessions: str, client: str = "c", start: int = 1) -> Roster:
    return Roster(client=client, number=(start, number), sessions=sessions)


def test_differences_are_applied_once() -> None:
    ledger = SessionLedger()
    assert ledger.apply(roster(1, "a", "b")) == (["a", "b"], [])
    assert ledger.apply(roster(2, "b", "c")) == (["c"], ["a"])
    assert ledger.apply(roster(2, "b", "c")) == ([], [])


def test_an_overtaken_message_changes_nothing_and_a_lost_one_is_made_good() -> None:
    ledger = SessionLedger()
    ledger.apply(roster(1, "a"))
    assert ledger.apply(roster(4, "d")) == (["d"], ["a"])
    assert ledger.apply(roster(3, "a", "c")) == ([], [])


def test_a_restarted_client_replaces_its_former_sessions_and_no_others() -> None:
    ledger = SessionLedger()
    ledger.apply(roster(7, "a"))
    ledger.apply(roster(1, "x", client="other"))
    assert ledger.apply(roster(1, "b", start=2)) == (["b"], ["a"])
