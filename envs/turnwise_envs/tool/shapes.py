"""What a task may ask for: templates of wishes, and how a task's wishes are drawn so that training leaves some out.

A wish is an action, or the question for a value. A person or an amount in it is named, or must be looked up first:
"Pay Vera the sum in the mail from the owner of ticket 212." takes three calls. A task is one to three wishes.

The structure of a task is the order in which its calls go through the services. Held-out tasks of two calls or more
have a pair of services that follow one another in no training task (`NEVER_AFTER`), where the chosen services hold one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, Final

from turnwise_envs.tool.lexicon import NEVER_AFTER
from turnwise_envs.tool.luck import Luck

MAX_WISHES: Final = 3
MAX_CALLS: Final = 6
_MAX_DRAWS: Final = 10_000

States = Mapping[str, Any]
Thing = dict[str, Any]
"""Something that calls are about, as arguments by name: `{"number": 212}`, `{"day": "Monday", "hour": 9}`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A value that can be looked up with one call."""

    service: str
    tool: str
    parameters: tuple[str, ...]  # entries of the thing that the call takes
    of: str  # the kind of thing: "ticket", "file", "meeting" or "person"
    gives: str  # "person" or "amount"
    phrase: str
    find: Callable[[States, Thing], Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of an action that is named or looked up."""

    parameter: str
    gives: str  # "person" or "amount"
    phrase: str


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be wished for."""

    service: str
    tool: str
    of: str  # the kind of thing: as in `Source`, "mail", "free" (an hour without a meeting), or "" for none
    phrase: str
    slots: tuple[Slot, ...] = ()  # the user may keep the last one back until asked


@dataclass(frozen=True, slots=True)
class Shape:
    """A wish without its names and numbers."""

    action: Action | None  # None: the user wants to be told what the chain leads to
    slot: int  # which slot of the action the chain fills; -1: none, all are named
    chain: tuple[Source, ...]  # what to look up, outermost first, so that calls are in the other order

    @property
    def services(self) -> list[str]:
        """The services of its calls, in order."""
        return [source.service for source in reversed(self.chain)] + ([self.action.service] if self.action else [])


def _fee(states: States, thing: Thing) -> Any:
    return states["bank"]["fees"][thing["person"]]


def _guest(states: States, thing: Thing) -> Any:
    return states["calendar"][thing["day"]][str(thing["hour"])]


def _asked(states: States, thing: Thing) -> Any:
    return next(mail["sum"] for mail in states["mail"].values() if mail["from"] == thing["person"])


def _author(states: States, thing: Thing) -> Any:
    return states["files"][thing["file"]]["author"]


def _sum(states: States, thing: Thing) -> Any:
    return states["files"][thing["file"]]["sum"]


def _owner(states: States, thing: Thing) -> Any:
    return states["tickets"][str(thing["number"])]["owner"]


SOURCES: Final = (
    Source("bank", "fee", ("person",), "person", "amount", "the fee of {person}", _fee),
    Source("calendar", "agenda", ("day",), "meeting", "person", "whoever I meet on {day} at {hour}", _guest),
    Source("mail", "inbox", ("person",), "person", "amount", "the sum in the mail from {person}", _asked),
    Source("files", "read", ("file",), "file", "person", "the author of {file}", _author),
    Source("files", "read", ("file",), "file", "amount", "the sum in {file}", _sum),
    Source("tickets", "ticket", ("number",), "ticket", "person", "the owner of ticket {number}", _owner),
)

ACTIONS: Final = (
    Action("bank", "pay", "", "Pay", (Slot("to", "person", " {}"), Slot("amount", "amount", " {}"))),
    Action("calendar", "book", "free", "Book {day} at {hour}", (Slot("person", "person", " with {}"),)),
    Action("calendar", "cancel", "meeting", "Cancel {day} at {hour}"),
    Action("mail", "forward", "mail", "Forward mail {mail}", (Slot("to", "person", " to {}"),)),
    Action("files", "share", "file", "Share {file}", (Slot("person", "person", " with {}"),)),
    Action("files", "delete", "file", "Delete {file}"),
    Action("tickets", "assign", "ticket", "Assign ticket {number}", (Slot("person", "person", " to {}"),)),
    Action("tickets", "resolve", "ticket", "Resolve ticket {number}"),
)


def most_calls(services: Sequence[str]) -> int:
    """Return the largest number of calls that a task over these services can need."""
    return MAX_WISHES * max(shapes_of(tuple(services)))


def draw_shapes(luck: Luck, services: tuple[str, ...], num_calls: int, split: str) -> list[Shape]:
    """Return the shapes of a task's wishes with so many calls in all, of a structure that belongs to the split."""
    shapes = shapes_of(services)
    sizes = _sizes(tuple(shapes), num_calls)
    is_wanted_held_out = split == "eval" and num_calls > 1 and any(NEVER_AFTER[name] in services for name in services)
    for _ in range(_MAX_DRAWS):
        drawn = [luck.pick(shapes[size]) for size in luck.pick(sizes)]
        if is_held_out([name for shape in drawn for name in shape.services]) == is_wanted_held_out:
            return drawn
    raise RuntimeError(f"no {split} task of {num_calls} calls to {', '.join(services)} found")


def is_held_out(structure: Sequence[str]) -> bool:
    """Whether no training task has this structure."""
    return any(NEVER_AFTER[first] == second for first, second in pairwise(structure))


@lru_cache(maxsize=64)
def shapes_of(services: tuple[str, ...]) -> dict[int, tuple[Shape, ...]]:
    """Return all shapes within some services, by their number of calls."""
    found: dict[int, list[Shape]] = {}
    for shape in _shapes(services):
        found.setdefault(len(shape.services), []).append(shape)
    return {size: tuple(found[size]) for size in sorted(found)}


def _shapes(services: Sequence[str]) -> Iterator[Shape]:
    for gives in ("person", "amount"):
        yield from (Shape(None, -1, chain) for chain in _chains(gives, services))
    for action in ACTIONS:
        if action.service in services:
            yield Shape(action, -1, ())
            for i, slot in enumerate(action.slots):
                yield from (Shape(action, i, chain) for chain in _chains(slot.gives, services))


def _chains(gives: str, services: Sequence[str]) -> Iterator[tuple[Source, ...]]:
    for source in SOURCES:
        if source.gives == gives and source.service in services:
            yield (source,)
            if source.of == "person":
                yield from ((source, *inner) for inner in _chains("person", services))


@lru_cache(maxsize=64)
def _sizes(sizes: tuple[int, ...], total: int) -> tuple[tuple[int, ...], ...]:
    """Return all ways to make up a number of calls from wishes of these sizes, in every order."""
    ways = (way for count in range(1, MAX_WISHES + 1) for way in product(sizes, repeat=count))
    return tuple(way for way in ways if sum(way) == total)
