"""Rooms of the box game, and what is known of their solutions: a search backwards from the solved states.

A state is one number: the player's cell in the lowest six bits, above them a bit for each cell with a box. From all
solved states the search undoes moves, breadth first, so that a state's layer is the number of moves that solve it. It
goes on as far as it is asked to, at most to `MAX_STATES`: farther states of large rooms are unknown.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Final

MAX_SIZE: Final = 8
"""Cells of a side; a room's cells fit into 64 bits."""

MAX_STATES: Final = 50_000
"""States of a room that are looked at: some 5 MB, and a fraction of a second."""

MOVES: Final = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Each move's step in rows and columns."""

WALL, FLOOR, BOX, PLAYER = "#", (".", "O"), ("X", "*"), ("P", "+")
"""Symbols of cells; but for walls, without and with a target."""

_PLAYER_BITS = 6
_PLAYER = (1 << _PLAYER_BITS) - 1


def state_of(player: int, boxes: int) -> int:
    """Return the state with the player in a cell and boxes, as bits, in others."""
    return boxes << _PLAYER_BITS | player


class Room:
    """A square room, its walls and targets as bits; outside is wall. Threads may share it."""

    def __init__(self, size: int, walls: int, targets: int) -> None:
        """Begin the search at the solved states."""
        self.size, self.walls, self.targets = size, walls, targets
        self._ahead = {move: [self._next(cell, step) for cell in range(size**2)] for move, step in MOVES.items()}
        self._undone = self._undo()
        free = [cell for cell in range(size**2) if not (walls | targets) >> cell & 1]
        self._outermost = [state_of(player, targets) for player in free]  # the last layer that was found
        self._layers = dict.fromkeys(self._outermost, 0)  # the layer of each state
        self._lock = threading.Lock()

    def move(self, state: int, move: str) -> int:
        """Return the state that a move leads to; the same one if a wall or a second box is in the way."""
        ahead, boxes = self._ahead[move], state >> _PLAYER_BITS
        here = ahead[state & _PLAYER]
        if here < 0:
            return state
        if boxes >> here & 1:
            beyond = ahead[here]
            if beyond < 0 or boxes >> beyond & 1:
                return state
            boxes ^= 1 << here | 1 << beyond
        return state_of(here, boxes)

    def num_placed(self, state: int) -> int:
        """Return how many boxes stand on targets; all of them in a solved state."""
        return (state >> _PLAYER_BITS & self.targets).bit_count()

    def show(self, state: int) -> str:
        """Return the board, a line a row, a symbol a cell."""
        player, boxes, cells = state & _PLAYER, state >> _PLAYER_BITS, list[str]()
        for cell in range(self.size**2):
            kind = PLAYER if cell == player else BOX if boxes >> cell & 1 else FLOOR
            cells.append(WALL if self.walls >> cell & 1 else kind[self.targets >> cell & 1])
        return "\n".join(" ".join(cells[row : row + self.size]) for row in range(0, len(cells), self.size))

    def distance(self, state: int) -> float | None:
        """Return how many moves solve a state; infinity: none do; None: not known within `MAX_STATES`."""
        with self._lock:
            while state not in self._layers and self._goes_on:
                self._add_layer()
            return self._layers.get(state, None if self._outermost else math.inf)

    def states_at(self, distance: int) -> Sequence[int]:
        """Return the states that so many moves solve, of a room that was searched no farther yet."""
        with self._lock:
            while self._goes_on and self._layers[self._outermost[0]] < distance:
                self._add_layer()
            found = self._outermost
            return found if found and self._layers[found[0]] == distance else ()

    def best_moves(self, state: int) -> list[str]:
        """Return the moves on shortest solutions; none for a state that is solved or not known to be solvable."""
        distance = self.distance(state)
        if distance is None or not 0 < distance < math.inf:
            return []
        return [move for move in MOVES if self.distance(self.move(state, move)) == distance - 1]

    def solution(self, state: int) -> list[str]:
        """Return a shortest solution; nothing where there is none or it is not known."""
        moves: list[str] = []
        while best := self.best_moves(state):
            moves.append(best[0])
            state = self.move(state, best[0])
        return moves

    @property
    def _goes_on(self) -> bool:
        return bool(self._outermost) and len(self._layers) < MAX_STATES

    def _add_layer(self) -> None:
        """Find the new states from which one move, with or without a push, leads into the outermost layer."""
        layers, found = self._layers, list[int]()
        depth = layers[self._outermost[0]] + 1
        for state in self._outermost:
            boxes = state >> _PLAYER_BITS
            for before, before_bit, beyond_bit, pull in self._undone[state & _PLAYER]:
                if boxes & before_bit:
                    continue
                walked = boxes << _PLAYER_BITS | before
                if walked not in layers:
                    layers[walked] = depth
                    found.append(walked)
                if boxes & beyond_bit and (pulled := walked ^ pull) not in layers:
                    layers[pulled] = depth
                    found.append(pulled)
        self._outermost = found

    def _next(self, cell: int, step: tuple[int, int]) -> int:
        """Return the cell a step farther; -1 for a wall."""
        row, column = cell // self.size + step[0], cell % self.size + step[1]
        is_inside = 0 <= row < self.size and 0 <= column < self.size
        there = row * self.size + column
        return there if is_inside and not self.walls >> there & 1 else -1

    def _undo(self) -> list[list[tuple[int, int, int, int]]]:
        """Return, for each cell, what undoes the moves that lead to it.

        That is the cell before, its bit, the bit of the cell beyond (0 for a wall), and what changes in a state when a
        box that was pushed there comes back.
        """
        undone: list[list[tuple[int, int, int, int]]] = [[] for _ in range(self.size**2)]
        for ahead in self._ahead.values():
            for before, cell in enumerate(ahead):
                if cell >= 0:
                    beyond_bit = 1 << ahead[cell] if ahead[cell] >= 0 else 0
                    undone[cell].append((before, 1 << before, beyond_bit, (beyond_bit | 1 << cell) << _PLAYER_BITS))
        return undone
