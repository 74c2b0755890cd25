"""`turnwise/Sokoban-v0`: push every box onto a target, in rooms drawn from the task's seed.

Each message shows the board; an action is one move, or several with `moves_per_turn`. A box that is pushed into a
corner stays there, so that an episode can be lost long before it ends. Rewards: `outcome` (1 when all boxes stand on
targets, which ends the episode), `progress` (the change of the share of boxes on targets, in the turn that changes it),
`format` (-1 for an action that cannot be read).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from turnwise.env import TurnEnv
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.arguments import probability, whole
from turnwise_envs.sokoban.drawing import Shape, Task, draw_task
from turnwise_envs.sokoban.room import BOX, FLOOR, MAX_SIZE, MOVES, PLAYER, WALL

_ERROR_WORDS: Final = ("error", "unknown", "move", "moves", "expected", "to", "of", "or")

WORDS: Final = (WALL, *FLOOR, *BOX, *PLAYER, *MOVES, "blocked", "solved", *_ERROR_WORDS)
"""Words of observations and actions, for a tokenizer of words; besides numbers, marks and words of bad actions."""

_TRIED_ROOMS = 40  # drawn to see whether there are any of a shape


class SokobanEnv(TurnEnv):
    """The box game."""

    sample_actions = (*MOVES, "jump")

    def __init__(
        self,
        *,
        size: int = 5,
        boxes: int = 1,
        min_length: int = 3,
        max_length: int = 12,
        max_turns: int = 24,
        moves_per_turn: int = 1,
        mistakes: float = 0.1,
        render_mode: str | None = None,
    ) -> None:
        """Set up the game; UserError for a value that does not fit, or for rooms that are not to be found.

        `size`: cells of a side, walls around not counted. `min_length` and `max_length`: moves of a shortest solution.
        `moves_per_turn`: moves of an action at most. `mistakes`: probability that a demonstrated move is a random one.
        """
        lengths = whole("min_length", min_length, 1, 60), whole("max_length", max_length, min_length, 60)
        shape = Shape(size=whole("size", size, 3, MAX_SIZE), boxes=whole("boxes", boxes, 1, 4), lengths=lengths)
        self.max_turns = whole("max_turns", max_turns, 1, 1000)
        self._most = whole("moves_per_turn", moves_per_turn, 1, 20)
        self._mistakes = probability("mistakes", mistakes)
        choices = f"{', '.join([*MOVES][:-1])} or {[*MOVES][-1]}"
        self._choices = choices if self._most == 1 else f"up to {self._most} of {choices}"
        self.instructions = (
            f"Push every box onto a target by walking into it; you cannot pull, and a wall or a second box behind it "
            f"stops you. {WALL} is a wall, as is everything outside the board; {FLOOR[0]} floor, {FLOOR[1]} a target, "
            f"{BOX[0]} a box, {BOX[1]} a box on a target, {PLAYER[0]} you, {PLAYER[1]} you on a target. Answer with "
            f"{self._choices}."
        )
        super().__init__(render_mode)
        self._shape = shape
        self._task = _tried(shape)
        self._at = self._task.start  # the present state

    def begin(self, options: Mapping[str, Any]) -> str:
        """Show the board of the task's seed."""
        self._task = draw_task(self._shape, self.task_seed, options.get("split"))
        self._at = self._task.start
        return self._board

    def act(self, action: Message) -> str:
        """Carry out the moves up to one that is blocked or solves the room, and show the board."""
        moves, placed = self._read(str(action["content"])), self._num_placed
        self._at, num_done = self._follow(moves)
        if self._num_placed != placed:
            self.reward("progress", (self._num_placed - placed) / self._shape.boxes)
        if self._num_placed == self._shape.boxes:
            self.reward("outcome", 1.0)
            self.finish()
            return f"solved\n{self._board}"
        return self._board if num_done == len(moves) else f"blocked\n{self._board}"

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark an action that cannot be read on the channel `format`."""
        self.reward("format", -1.0)

    def state_key(self) -> str:
        """Return the places of player and boxes."""
        return f"{self._at:x}"

    def gold(self) -> dict[str, Any]:
        """Return the board and a shortest solution."""
        return {"question": self._board, "answer": " ".join(self._task.room.solution(self._at))}

    def oracle(self, action: str) -> float | None:
        """Return 1 for moves on a shortest solution, 0 for others, -1 for blocked, unreadable and fatal ones.

        None where the search does not reach. In a room that is lost already, every move that can be made is worth 0.
        """
        try:
            moves = self._read(action)
        except InvalidAction:
            return -1.0
        at, num_done = self._follow(moves)
        before, after = self._task.room.distance(self._at), self._task.room.distance(at)
        is_solved = after == 0
        if num_done < len(moves) and not is_solved:
            return -1.0
        if before is None or after is None:
            return None
        if before == math.inf:
            return 0.0
        return -1.0 if after == math.inf else float(after == before - num_done)

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return moves of a shortest solution, now and then and in a lost room random ones that are not blocked."""
        room, at, moves = self._task.room, self._at, list[str]()
        while len(moves) < self._most and room.num_placed(at) < self._shape.boxes:
            able = [move for move in MOVES if room.move(at, move) != at]
            best = room.best_moves(at) if rng.random() >= self._mistakes else []
            moves.append(str(rng.choice(best or able)))
            at = room.move(at, moves[-1])
        return " ".join(moves)

    def _follow(self, moves: list[str]) -> tuple[int, int]:
        """Return the state that moves lead to, and how many of them were made."""
        at, room = self._at, self._task.room
        for num_done, move in enumerate(moves):
            after = room.move(at, move)
            if after == at or room.num_placed(at) == self._shape.boxes:
                return at, num_done
            at = after
        return at, len(moves)

    def _read(self, text: str) -> list[str]:
        """Return the moves that an action names; InvalidAction, with the board, for anything else."""
        moves = text.lower().replace(",", " ").split()
        unknown = next((move for move in moves if move not in MOVES), None)
        if unknown is None and 0 < len(moves) <= self._most:
            return moves
        shown = f"unknown move {unknown[:20]}" if unknown else f"{len(moves)} moves"
        raise InvalidAction(f"{shown}; expected {self._choices}\n{self._board}")

    @property
    def _board(self) -> str:
        return self._task.room.show(self._at)

    @property
    def _num_placed(self) -> int:
        return self._task.room.num_placed(self._at)


def _tried(shape: Shape) -> Task:
    """Return a training task of a shape; UserError unless there are some of either split."""
    try:
        _, task = (draw_task(shape, 0, split, _TRIED_ROOMS) for split in ("eval", "train"))
    except ValueError:
        remedy = f"ask for shorter solutions than {shape.lengths[0]} to {shape.lengths[1]} moves, or for another size"
        problem = f"no rooms found with {shape.boxes} boxes on {shape.size} x {shape.size} cells"
        raise UserError("env.kwargs.min_length", shape.lengths[0], problem, remedy) from None
    return task
