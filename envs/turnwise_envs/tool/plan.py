"""How far an episode has come: which of the task's moves were made, and which would be the next ones."""

from __future__ import annotations

from collections.abc import Callable

from turnwise.env import ToolCall
from turnwise_envs.tool.task import Kind, Move, Task, Wish, is_same


class Plan:
    """The moves of one task that are still to be made."""

    def __init__(self, task: Task) -> None:
        """Begin with all of them."""
        self.task = task
        self._left = [(wish, list(wish.moves)) for wish in task.wishes]
        self._num_moves = sum(len(wish.moves) for wish in task.wishes)

    @property
    def next_moves(self) -> list[Move]:
        """The next move of each wish; none of a wish whose last one was made, even if others were left out."""
        return [left[0] for wish, left in self._left if _is_open(wish, left)]

    @property
    def is_settled(self) -> bool:
        """Whether the user was asked about everything that they say no to."""
        return not any(wish.is_denied and _is_open(wish, left) for wish, left in self._left)

    @property
    def found_out(self) -> list[str]:
        """What is to be told of wishes that have no next move; nothing, an empty text, of the others."""
        return ["" if _is_open(wish, left) else wish.told for wish, left in self._left if wish.told]

    @property
    def key(self) -> str:
        """A text that is equal where the same moves are left."""
        return " ".join("".join(str(move in left)[0] for move in wish.moves) for wish, left in self._left)

    def makes(self, call: ToolCall) -> bool:
        """Whether a call is one of the next moves."""
        fits = self._fits(call)
        return any(fits(wish, left[0]) for wish, left in self._left if _is_open(wish, left))

    def mark(self, call: ToolCall, *, is_yes: bool = False) -> float:
        """Take note of a call that was carried out; return the share of all moves that it made for the first time.

        `is_yes`: what the user said to it. A no settles only what they say no to.
        """
        fits, num_made = self._fits(call), 0
        for wish, left in self._left:
            made = [move for move in left if fits(wish, move)]
            if not is_yes and not wish.is_denied:
                made = [move for move in made if move.kind is not Kind.CONFIRM]
            left[:] = [move for move in left if move not in made]
            num_made += len(made)
            if any(move.kind is Kind.ACT for move in made):
                break  # two equal wishes take two calls
        return num_made / self._num_moves if num_made else 0.0

    def _fits(self, call: ToolCall) -> Callable[[Wish, Move], bool]:
        """Return whether a call makes a move of a wish."""
        if call.name != "say":
            return lambda wish, move: is_same(move.call, call)
        text = call.arguments["text"]
        put, is_question = self.task.put_by(text), self.task.is_question(text)
        return lambda wish, move: wish in put if move.kind is Kind.CONFIRM else is_question and move.kind is Kind.ASK


def _is_open(wish: Wish, left: list[Move]) -> bool:
    """Whether a wish has a next move."""
    return bool(left) and left[-1] is wish.moves[-1]
