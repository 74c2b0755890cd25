"""Tasks by seed: a kind of room, a goal, the receptacles, and where everything lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np

from turnwise_envs.household.goal import Goal, goals_in
from turnwise_envs.household.house import House, kind_of
from turnwise_envs.household.lexicon import LAMP, OPENABLE, ROOMS, RoomKind

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What is asked of tasks."""

    goals: tuple[str, ...]
    rooms: tuple[str, ...]
    num_receptacles: int
    num_things: int  # besides a lamp

    def choices(self, split: str | None) -> list[tuple[str, str]]:
        """Return the pairs of a goal's verb and a kind of room that have goals in a split."""
        return [(verb, room) for verb in self.goals for room in self.rooms if goals_in(room, verb, split)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A goal in a house, which nobody has changed yet."""

    room: str
    goal: Goal
    house: House


def draw_task(shape: Shape, rng: np.random.Generator, split: str | None) -> Task:
    """Draw a task: a verb, then a room that has it, then a thing and a place."""
    choices = shape.choices(split)
    verb = _pick(rng, list(dict.fromkeys(verb for verb, _ in choices)))
    room = _pick(rng, [room for its, room in choices if its == verb])
    goal = _pick(rng, goals_in(room, verb, split))
    receptacles = _draw_receptacles(shape, ROOMS[room], goal, rng)
    places = _draw_places(shape, ROOMS[room], goal, receptacles, rng)
    return Task(room=room, goal=goal, house=House(receptacles=receptacles, places=places))


def _draw_receptacles(shape: Shape, kind: RoomKind, goal: Goal, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw receptacles: the fixtures, one that the goal asks for, one of another kind, and any others."""
    needed = dict.fromkeys([*kind.fixtures, goal.place])
    needed.pop(LAMP, None)
    others = [other for other in kind.others if other not in needed]
    kinds = [*needed, _pick(rng, others)]
    kinds += [_pick(rng, kind.others) for _ in range(shape.num_receptacles - len(kinds))]
    return tuple(_numbered(sorted(kinds)))


def _draw_places(
    shape: Shape, kind: RoomKind, goal: Goal, receptacles: Sequence[str], rng: np.random.Generator
) -> dict[str, str]:
    """Draw things, the goal's own and maybe one more of its kind not where they belong, and where they lie."""
    own = [goal.thing] * (goal.number + int(rng.integers(2)))
    rest = [thing for thing in kind.things if thing != goal.thing]
    lamps = [LAMP] if kind.has_lamp else []
    kinds = [*lamps, *own, *(_pick(rng, rest) for _ in range(shape.num_things - len(own)))]
    amiss = [place for place in receptacles if kind_of(place) != goal.place]
    tops = [place for place in receptacles if kind_of(place) not in OPENABLE]
    where = {goal.thing: amiss, LAMP: tops}
    return {thing: _pick(rng, where.get(kind_of(thing), receptacles)) for thing in _numbered(sorted(kinds))}


def _numbered(kinds: Iterable[str]) -> list[str]:
    numbers = {kind: count(1) for kind in kinds}
    return [f"{kind} {next(numbers[kind])}" for kind in kinds]


def _pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]
