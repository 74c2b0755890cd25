"""The calendar: meetings of the user's. State: by day, by hour (as text), with whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from turnwise.env import tool
from turnwise.errors import InvalidAction
from turnwise_envs.tool.lexicon import OPEN_HOURS
from turnwise_envs.tool.services import Need, Service

Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]


class Calendar(Service):
    """Meetings by day and hour."""

    rule = f"A meeting is booked only at an hour from {OPEN_HOURS[0]} to {OPEN_HOURS[-1]}."

    def need(self, tool: str, arguments: Mapping[str, Any]) -> Need:
        """Nothing is booked outside the hours."""
        return Need.NEVER if tool == "book" and arguments["hour"] not in OPEN_HOURS else Need.NOTHING

    @tool
    def agenda(self, day: Day) -> str:
        """Show the meetings of a day, hour and person each.

        day: which
        """
        meetings = sorted(self.state[day].items(), key=lambda item: int(item[0]))
        return "; ".join(f"{hour} {person}" for hour, person in meetings) or "nothing"

    @tool
    def book(self, day: Day, hour: int, person: str) -> str:
        """Book a meeting at a free hour.

        day: when
        hour: from 0 to 23
        person: with whom
        """
        name = self.person(person)
        if not 0 <= hour <= 23:
            raise InvalidAction("book needs hour from 0 to 23")
        if str(hour) in self.state[day]:
            raise InvalidAction(f"{day} {hour} is taken")
        self.state[day][str(hour)] = name
        return f"booked {day} {hour} {name}"

    @tool
    def cancel(self, day: Day, hour: int) -> str:
        """Cancel a meeting.

        day: when
        hour: when it begins
        """
        if str(hour) not in self.state[day]:
            raise InvalidAction(f"no meeting {day} {str(hour)[:10]}")
        del self.state[day][str(hour)]
        return f"canceled {day} {hour}"
