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

MAX_DRAWS: Final = 2000
"""Rooms drawn for one task; most shapes need a few."""

MAX_ROOMS: Final = 32
"""Rooms kept in a process; the episodes of a group start together."""


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


@lru_cache(maxsize=MAX_ROOMS)
def draw_task(shape: Shape, seed: int, split: str | None, max_draws: int = MAX_DRAWS) -> Task:
    """Return the task of a seed, of either split if none is named; ValueError if no room of the shape is found."""
    rng = np.random.default_rng(seed)
    for _ in range(max_draws):
        length = int(rng.integers(shape.lengths[0], shape.lengths[1] + 1))
        cells = _draw_cells(shape, rng)
        if split is not None and is_held_out(cells) != (split == "eval"):
            continue
        room = Room(shape.size, *(sum(1 << int(cell) for cell in np.flatnonzero(cells == what)) for what in (1, 2)))
        starts = [state for state in room.states_at(length) if not room.num_placed(state)]
        if starts:
            return Task(room=room, start=starts[int(rng.integers(len(starts)))])
    raise ValueError(f"no room found for {shape} in {max_draws} draws")


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
