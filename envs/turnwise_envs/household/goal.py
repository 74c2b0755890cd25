"""Goals: what is to be done, how much of it is, and which goals are held out.

A goal is a verb, a kind of thing and a kind of place. One combination in `HELD_OUT` is for evaluation, in whichever
room: such a thing is never asked for in such a way and place in training, though it lies about there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from turnwise_envs.household.house import House, kind_of
from turnwise_envs.household.lexicon import LAMP, LIT, ROOMS, TREATABLE, TREATMENTS

HELD_OUT: Final = 5

GOALS: Final = ("put", "put_two", *TREATMENTS, "examine")
"""Kinds of goals; the three in the middle are: treat, then put."""

_LAST = {"examine": "light"}  # the last phase; of other goals it is "place"


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be done."""

    verb: str  # one of `GOALS`
    thing: str  # a kind
    place: str  # a kind of receptacle; `LAMP` for `examine`

    @property
    def number(self) -> int:
        """How many things must be as they should."""
        return 2 if self.verb == "put_two" else 1

    @property
    def state(self) -> str:
        """What they must be besides; empty for nothing."""
        return LIT if self.verb == "examine" else TREATMENTS[self.verb][1] if self.verb in TREATMENTS else ""

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of what is to be done with a thing, in order."""
        return ("find", *([self.verb] if self.verb in TREATMENTS else []), _LAST.get(self.verb, "place"))

    @property
    def is_held_out(self) -> bool:
        """Whether it is for evaluation."""
        digest = blake2b(f"{self.verb} {self.thing} {self.place}".encode(), digest_size=4).digest()
        return int.from_bytes(digest) % HELD_OUT == 0

    def __str__(self) -> str:
        """Say it."""
        if self.verb == "examine":
            return f"look at {self.thing} under {self.place}"
        how = "two " if self.verb == "put_two" else f"{self.state} " if self.state else ""
        return f"put {how}{self.thing} in {self.place}"

    def suits(self, house: House, thing: str) -> bool:
        """Whether a thing is as it should be."""
        is_treated = not self.state or (thing, self.state) in house.states
        is_there = self.verb == "examine" or kind_of(house.places[thing]) == self.place
        return kind_of(thing) == self.thing and is_treated and is_there

    def num_suiting(self, house: House) -> int:
        """Return how many things are as they should be."""
        return sum(self.suits(house, thing) for thing in house.places)

    def phase(self, house: House) -> str:
        """Return what is to be done next: the first phase that what is in the hand has not gone through."""
        if kind_of(house.held) != self.thing:
            return "find"
        return self.phases[-1] if (house.held, self.state) in house.states else self.phases[1]

    def progress(self, house: House) -> float:
        """Return the share of phases gone through by the things that are ahead; 1 if, and only if, all is done."""
        num_done, each = min(self.number, self.num_suiting(house)), len(self.phases)
        if num_done == self.number:
            return 1.0
        others = [thing for thing in house.places if kind_of(thing) == self.thing and not self.suits(house, thing)]
        ahead = max((self._gone_through(house, thing) for thing in others), default=0)
        return (num_done * each + ahead) / (self.number * each)

    def _gone_through(self, house: House, thing: str) -> int:
        return (thing == house.held) + (self.verb in TREATMENTS and (thing, self.state) in house.states)


@lru_cache(maxsize=64)
def goals_in(room: str, verb: str, split: str | None) -> tuple[Goal, ...]:
    """Return the goals of a verb in a kind of room, of either split if none is named."""
    found = _combinations(room, verb)
    return tuple(goal for goal in found if split is None or goal.is_held_out == (split == "eval"))


def _combinations(room: str, verb: str) -> Iterator[Goal]:
    kind = ROOMS[room]
    places = [*kind.fixtures, *kind.others]
    if verb == "examine":
        yield from (Goal(verb, thing, LAMP) for thing in kind.things if kind.has_lamp)
        return
    station = TREATMENTS[verb][0] if verb in TREATMENTS else ""
    if not station or station in places:
        things = [thing for thing in kind.things if not station or thing in TREATABLE[verb]]
        yield from (Goal(verb, thing, place) for thing in things for place in places if place != station)
