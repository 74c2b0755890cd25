"""Rooms and first states by seed: solvable, as long as asked for, and apart for training and for evaluation.

Whether a room is held out follows from its walls and targets alone, and is the same for its turns and reflections: no
room of an evaluation is met in training in any position.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from turnwise_envs.sokoban.room import Room

HELD_OUT: Final = 5
"""One room in so many is held out."""

MAX_ROOMS: Final = 1000
"""Rooms drawn for one task; most shapes need one or two."""

MAX_TASKS: Final = 32
"""Tasks kept in a process; the episodes of a group start together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What is asked of rooms."""

    size: int  # cells of a side
    boxes: int
    lengths: tuple[int, int]  # fewest and most moves of a shortest solution


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A room and where everything stands at first, no box on a target."""

    room: Room
    start: int  # a state


@lru_cache(maxsize=MAX_TASKS)
def draw_task(shape: Shape, seed: int, split: str | None, max_rooms: int = MAX_ROOMS) -> Task:
    """Return the task of a seed, of either split if none is named; ValueError if no room of the shape is found."""
    rng = np.random.default_rng(seed)
    for _ in range(max_rooms):
        cells = _draw_cells(shape, rng)
        while split is not None and is_held_out(cells) != (split == "eval"):
            cells = _draw_cells(shape, rng)
        room = Room(shape.size, *(sum(1 << int(cell) for cell in np.flatnonzero(cells == what)) for what in (1, 2)))
        starts = _starts(room, shape.lengths[0], int(rng.integers(shape.lengths[0], shape.lengths[1] + 1)))
        if starts:
            return Task(room=room, start=starts[int(rng.integers(len(starts)))])
    raise ValueError(f"{shape}: nothing found in {max_rooms} rooms")


def is_held_out(cells: NDArray[np.uint8]) -> bool:
    """Whether the room with these cells, [size, size], 1 a wall and 2 a target, is for evaluation."""
    seen = (np.rot90(side, quarter).tobytes() for side in (cells, cells.T) for quarter in range(4))
    return int.from_bytes(blake2b(min(seen), digest_size=4).digest()) % HELD_OUT == 0


def _draw_cells(shape: Shape, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw up to a quarter of the cells as walls, and targets among the others."""
    order = rng.permutation(shape.size**2)
    num_walls = int(rng.integers(len(order) // 4 + 1))
    cells = np.zeros(len(order), dtype=np.uint8)
    cells[order[:num_walls]], cells[order[num_walls : num_walls + shape.boxes]] = 1, 2
    return cells.reshape(shape.size, shape.size)


def _starts(room: Room, shortest: int, longest: int) -> list[int]:
    """Return the states without a box on a target that are as far from a solution as any within two lengths."""
    farthest: list[int] = []
    for length in range(shortest, longest + 1):
        states = room.states_at(length)
        if not states:
            break
        farthest = [state for state in states if not room.num_placed(state)] or farthest
    return farthest
