"""Which sessions each client of an engine has open, told as whole lists: order and loss of messages do not matter.

Ray may deliver the calls of one caller in another order than they were made, or run one twice. A client therefore sends
with every call all the sessions it has open, under a number that rises; the engine's side applies the difference to the
newest list it knows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Roster:
    """All sessions that one client has open."""

    client: str  # a name that a restarted client keeps
    number: tuple[int, int]  # (the client's start, its count of calls): rises
    sessions: tuple[str, ...]


class SessionLedger:
    """The newest roster of every client."""

    def __init__(self) -> None:
        """Nobody is known yet."""
        self._rosters: dict[str, Roster] = {}

    def apply(self, roster: Roster) -> tuple[list[str], list[str]]:
        """Return sessions to open and sessions to close, in this order; nothing for a roster that is not the newest."""
        former = self._rosters.get(roster.client)
        if former is not None and roster.number <= former.number:
            return [], []
        self._rosters[roster.client] = roster
        known = set(former.sessions) if former else set()
        listed = set(roster.sessions)
        opened = [session for session in roster.sessions if session not in known]
        closed = [session for session in (former.sessions if former else ()) if session not in listed]
        return opened, closed
