"""Simulated services: a few typed tools each, over a plain state that JSON can hold.

A tool does what it is told if the state allows it, and raises `InvalidAction` otherwise. It does not keep to the rules
of the policy document: `need` says what these ask of a call, and the environment looks whether the agent kept to them.
A state is the same whatever the order in which independent calls led to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from turnwise.errors import InvalidAction


class Need(StrEnum):
    """What the rules ask of a call."""

    NOTHING = "nothing"
    YES = "yes"  # the user has said yes to it
    NEVER = "never"  # it is not made at all


class Service:
    """Base of the services; tools are methods marked `@tool`."""

    rule: ClassVar[str] = ""  # its sentence of the policy document

    def __init__(self, state: dict[str, Any], people: Sequence[str]) -> None:
        """`state` is changed in place; `people` are those that there are."""
        self.state, self.people = state, people

    def need(self, tool: str, arguments: Mapping[str, Any]) -> Need:
        """Return what the rules ask of a call in the present state."""
        return Need.NOTHING

    def known(self, what: str, name: str, names: Iterable[str]) -> str:
        """Return a name as it is written here, whatever the case; InvalidAction if there is no such thing."""
        wanted = " ".join(name.split()).casefold()
        for one in names:
            if one.casefold() == wanted:
                return one
        raise InvalidAction(f"no {what} {wanted[:40]}")

    def person(self, name: str) -> str:
        """Return a person's name as it is written; InvalidAction if there is nobody of that name."""
        return self.known("person", name, self.people)
