"""All services of one episode: drawn for a task, called by tool, compared by state.

The environment plays in one office; a copy of it, in which the right calls are made, shows the state to be reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Final

from turnwise.env import ToolCall
from turnwise.env.tools import Tool, read_tools
from turnwise_envs.tool.lexicon import AMOUNTS, DAYS, FILES, MAILS, OPEN_HOURS, PEOPLE, TICKETS
from turnwise_envs.tool.luck import Luck
from turnwise_envs.tool.services import Need, Service
from turnwise_envs.tool.services.bank import Bank
from turnwise_envs.tool.services.calendar import Calendar
from turnwise_envs.tool.services.files import Files
from turnwise_envs.tool.services.mail import Mail
from turnwise_envs.tool.services.tickets import Tickets

SERVICES: Final[dict[str, type[Service]]] = {
    "bank": Bank,
    "calendar": Calendar,
    "mail": Mail,
    "files": Files,
    "tickets": Tickets,
}
"""Services by name, in the order of their tools."""

TOOLS: Final[dict[str, dict[str, Tool]]] = {name: read_tools(service) for name, service in SERVICES.items()}
"""Tools by service and name; no name occurs twice."""

SERVICE_OF: Final[dict[str, str]] = {tool: name for name, tools in TOOLS.items() for tool in tools}
"""The service of each tool."""

NUM_PEOPLE: Final = 8
NUM_THINGS: Final = 8  # tickets, files, meetings

_ENCODER: Final = json.JSONEncoder(sort_keys=True)
_SLOTS: Final = tuple(product(DAYS, OPEN_HOURS))
_BALANCES: Final = range(460, 512)


class Office:
    """Services by name, with their states."""

    def __init__(self, states: dict[str, Any], people: Sequence[str]) -> None:
        """`states` by service; they are changed in place."""
        self.states, self.people = states, tuple(people)
        self.services = {name: SERVICES[name](state, self.people) for name, state in states.items()}
        self._texts: dict[str, str] = {}  # of the states of services that were not called since `key` wrote them

    def call(self, call: ToolCall) -> str:
        """Carry out a call whose arguments fit the tool; InvalidAction."""
        name = SERVICE_OF[call.name]
        self._texts.pop(name, None)
        answer: str = getattr(self.services[name], call.name)(**call.arguments)
        return answer

    def need(self, call: ToolCall) -> Need:
        """Return what the rules ask of a call in the present state."""
        return self.services[SERVICE_OF[call.name]].need(call.name, call.arguments)

    def key(self) -> str:
        """Return the states as JSON, equal for equal states."""
        for name, state in self.states.items():
            if name not in self._texts:
                self._texts[name] = f'"{name}": {_ENCODER.encode(state)}'
        return f"{{{', '.join(self._texts[name] for name in self.states)}}}"

    def things(self, kind: str) -> list[dict[str, Any]]:
        """Return all things of a kind that calls may be about, as arguments by name; "free": hours without meetings."""
        if kind == "person":
            return [{"person": name} for name in self.people]
        if kind == "file":
            return [{"file": name} for name in self.states["files"]]
        if kind in ("ticket", "mail"):
            key = "number" if kind == "ticket" else "mail"
            return [{key: int(number)} for number in self.states["tickets" if kind == "ticket" else "mail"]]
        booked = self.states["calendar"]
        return [{"day": day, "hour": hour} for day, hour in _SLOTS if (str(hour) in booked[day]) == (kind == "meeting")]

    @property
    def findings(self) -> set[str]:
        """What somebody who looks around finds, the people and the amounts, as words in lower case."""
        sums = (thing["sum"] for name in ("mail", "files") for thing in self.states.get(name, {}).values())
        fees = self.states.get("bank", {}).get("fees", {}).values()
        return {*(name.casefold() for name in self.people), *map(str, sums), *map(str, fees)}


def draw_office(luck: Luck, services: Sequence[str], split: str) -> Office:
    """Return an office with things of a split (train or eval) in these services."""
    people = luck.some(PEOPLE[split], NUM_PEOPLE)
    return Office({name: _DRAWS[name](luck, people, split) for name in services}, people)


def _draw_bank(luck: Luck, people: Sequence[str], split: str) -> dict[str, Any]:
    return {"balance": luck.pick(_BALANCES), "fees": {name: luck.pick(AMOUNTS) for name in people}, "paid": {}}


def _draw_calendar(luck: Luck, people: Sequence[str], split: str) -> dict[str, Any]:
    state: dict[str, Any] = {day: {} for day in DAYS}
    for day, hour in luck.some(_SLOTS, NUM_THINGS):
        state[day][str(hour)] = luck.pick(people)
    return state


def _draw_mail(luck: Luck, people: Sequence[str], split: str) -> dict[str, Any]:
    numbers = luck.some(MAILS, len(people))
    drawn = zip(numbers, people, strict=True)
    return {str(number): {"from": name, "sum": luck.pick(AMOUNTS), "to": []} for number, name in drawn}


def _draw_files(luck: Luck, people: Sequence[str], split: str) -> dict[str, Any]:
    names = luck.some(FILES[split], NUM_THINGS)
    return {name: {"author": luck.pick(people), "sum": luck.pick(AMOUNTS), "readers": []} for name in names}


def _draw_tickets(luck: Luck, people: Sequence[str], split: str) -> dict[str, Any]:
    numbers = luck.some(TICKETS, NUM_THINGS)
    return {str(number): {"owner": luck.pick(people), "is_open": True} for number in numbers}


_DRAWS: Final[dict[str, Callable[[Luck, Sequence[str], str], dict[str, Any]]]] = {
    "bank": _draw_bank,
    "calendar": _draw_calendar,
    "mail": _draw_mail,
    "files": _draw_files,
    "tickets": _draw_tickets,
}
