"""The demonstrator of the tool world: makes the next needed move, and errs now and then.

A warm start learns from it how calls look, and is left with something to learn by reinforcement. It knows the task, so
it goes on from whatever state it finds; a mistake that changed the wrong thing is not mended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from turnwise.env import ToolCall
from turnwise_envs.tool.lexicon import AMOUNTS
from turnwise_envs.tool.office import Office
from turnwise_envs.tool.plan import Plan
from turnwise_envs.tool.task import Kind, Move

_KIND_OF: Final = {"person": "person", "to": "person", "file": "file", "mail": "mail", "number": "ticket"}
"""The kind of thing that a parameter names, where there is always another one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistakes:
    """How often the demonstrator errs, as probabilities."""

    wrong_value: float = 0.1  # a call: another person, thing or amount in its last argument
    unasked: float = 0.3  # a yes: acts without it
    early_answer: float = 0.1  # a move: answers instead
    wrong_answer: float = 0.2  # an answer that tells something: tells something else instead


class Clerk:
    """The demonstrator; it remembers nothing."""

    def __init__(self, mistakes: Mistakes) -> None:
        """`mistakes` are drawn anew for every call."""
        self._mistakes = mistakes

    def next(self, rng: np.random.Generator, plan: Plan, office: Office, turns_left: int) -> ToolCall:
        """Return its next call."""
        move = next(iter(plan.next_moves), None)
        if move is None or turns_left <= 1 or rng.random() < self._mistakes.early_answer:
            return self._answer(rng, plan, office)
        if move.kind is Kind.CONFIRM and rng.random() < self._mistakes.unasked:
            return _unasked(plan, move)
        if move.kind in (Kind.LOOK, Kind.ACT) and rng.random() < self._mistakes.wrong_value:
            return _distorted(rng, move.call, office)
        return move.call

    def _answer(self, rng: np.random.Generator, plan: Plan, office: Office) -> ToolCall:
        """Return the answer; what was not found out is guessed."""
        told = plan.found_out
        if told and rng.random() < self._mistakes.wrong_answer:
            told = ["", *told[1:]]
        text = " ".join(one or office.people[rng.integers(len(office.people))] for one in told)
        return ToolCall(name="answer", arguments={"text": text or "done"})


def _unasked(plan: Plan, move: Move) -> ToolCall:
    """Return the call for which a move asks a yes."""
    wish = next(wish for wish in plan.task.wishes if move in wish.moves)
    assert wish.yes_to is not None, "a move asks for a yes to nothing"
    return wish.yes_to


def _distorted(rng: np.random.Generator, call: ToolCall, office: Office) -> ToolCall:
    """Return a call with another value in its last argument, if another one would do there."""
    name, value = list(call.arguments.items())[-1]
    if name == "amount":
        others: list[Any] = [amount for amount in AMOUNTS if amount != value]
    else:
        things = office.things(_KIND_OF[name]) if name in _KIND_OF else []
        others = [other for thing in things for other in thing.values() if other != value]
    if not others:
        return call
    return ToolCall(name=call.name, arguments={**call.arguments, name: others[rng.integers(len(others))]})
