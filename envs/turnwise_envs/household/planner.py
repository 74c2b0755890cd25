"""The shortest way to a goal, and the search of somebody who has not seen everything.

The oracle plans in the house as it is; the demonstrator in what it has seen of it, since nobody could learn from one
who walks straight to what is hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations, product

from turnwise_envs.household.goal import Goal
from turnwise_envs.household.house import Command, House, kind_of
from turnwise_envs.household.lexicon import TREATMENTS


def plan(house: House, goal: Goal) -> list[Command]:
    """Return as few commands as reach the goal, or get as near to it as the things that the house has allow."""
    things = [thing for thing in house.places if kind_of(thing) == goal.thing and not goal.suits(house, thing)]
    missing = min(goal.number - goal.num_suiting(house), len(things))
    if missing <= 0:
        return []
    ends = [end for end in (*house.receptacles, *house.places) if kind_of(end) == goal.place] or [""]
    errands = product(permutations(things, missing), product(ends, repeat=missing))
    return min((_Walk(house, goal, zip(order, stops, strict=True)).commands for order, stops in errands), key=len)


def next_search(house: House) -> Command:
    """Return what looks into the next receptacle that was not looked into; `look` if there is none."""
    if house.at and house.at not in house.searched:
        return Command("open", place=house.at)
    left = (place for place in house.receptacles if place not in house.searched)
    place = next(left, "")
    return Command("go", place=place) if place else Command("look")


class _Walk:
    """Brings things to their ends, one after the other, in a copy of the house."""

    def __init__(self, house: House, goal: Goal, errands: Iterable[tuple[str, str]]) -> None:
        self.commands: list[Command] = []
        self._house, self._goal = house.copy(), goal
        for thing, end in errands:
            self._fetch(thing)
            self._treat(thing)
            self._bring(thing, end)

    def _fetch(self, thing: str) -> None:
        house = self._house
        if house.held == thing:
            return
        place = house.places[thing]
        self._reach(place)
        if house.held:
            self._do(Command("put", house.held, place))
        self._do(Command("take", thing, place))

    def _treat(self, thing: str) -> None:
        verb = self._goal.verb
        if verb in TREATMENTS and (thing, self._goal.state) not in self._house.states:
            station = next(place for place in self._house.receptacles if kind_of(place) == TREATMENTS[verb][0])
            self._go(station)
            self._do(Command(verb, thing, station))

    def _bring(self, thing: str, end: str) -> None:
        if self._goal.verb != "examine":
            self._reach(end)
            self._do(Command("put", thing, end))
        elif end:  # a lamp that was seen
            self._reach(self._house.places[end])
            self._do(Command("use", end))

    def _reach(self, place: str) -> None:
        self._go(place)
        if self._house.is_closed(place):
            self._do(Command("open", place=place))

    def _go(self, place: str) -> None:
        if self._house.at != place:
            self._do(Command("go", place=place))

    def _do(self, command: Command) -> None:
        self._house.do(command)
        self.commands.append(command)
