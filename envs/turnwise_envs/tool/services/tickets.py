"""Tickets. State: by number (as text), `owner` and whether it `is_open`."""

from __future__ import annotations

from typing import Any

from turnwise.env import tool
from turnwise.errors import InvalidAction
from turnwise_envs.tool.services import Service


class Tickets(Service):
    """A list of tickets."""

    @tool
    def ticket(self, number: int) -> str:
        """Show a ticket: its owner and whether it is open.

        number: which
        """
        found = self._ticket(number)
        return f"ticket {number} owner {found['owner']} {'open' if found['is_open'] else 'resolved'}"

    @tool
    def assign(self, number: int, person: str) -> str:
        """Give a ticket to another owner.

        number: which
        person: the new owner
        """
        found, name = self._ticket(number), self.person(person)
        found["owner"] = name
        return f"assigned {number} {name}"

    @tool
    def resolve(self, number: int) -> str:
        """Mark a ticket as resolved.

        number: which
        """
        self._ticket(number)["is_open"] = False
        return f"resolved {number}"

    def _ticket(self, number: int) -> dict[str, Any]:
        if str(number) not in self.state:
            raise InvalidAction(f"no ticket {str(number)[:10]}")
        found: dict[str, Any] = self.state[str(number)]
        return found
