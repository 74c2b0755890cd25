"""The demonstrator of the search world: follows a question's chain page by page, and errs now and then.

A warm start learns from it how actions look, and should be left with something to learn by reinforcement. It knows
no more than it has read, apart from the places of facts; after a mistake it goes on with what it believes, notices when
a page does not hold what it seeks, and answers with its last belief when it is stuck or out of turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnwise.env import ToolCall
from turnwise_envs.search.lexicon import RELATIONS
from turnwise_envs.search.library import Shelf
from turnwise_envs.search.world import Question

_MAX_SEARCHES = 2  # for one fact, before it gives up


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistakes:
    """How often the demonstrator errs, as probabilities."""

    wrong_relation: float = 0.1  # a hop: seeks another fact of the same entity
    wrong_page: float = 0.15  # an opening: opens another result first
    early_answer: float = 0.1  # a hop but the last: answers with what it has just read
    wrong_value: float = 0.1  # a hop: reads another value of the right page


def relations_of(question: Question) -> tuple[str, ...]:
    """Return the relations that a question follows, in the order of its hops."""
    return tuple(rubric.statement.split()[1] for rubric in question.rubrics)  # "The <relation> of <subject> is ..."


class Researcher:
    """One episode's demonstrator."""

    def __init__(self, question: Question, shelf: Shelf, mistakes: Mistakes) -> None:
        """Begin at the entity that the question names."""
        self._relations = relations_of(question)
        self._shelf, self._mistakes = shelf, mistakes
        self._values = [question.chain[0]]  # the entity that the question names, then what it has read, a value a hop
        self._pages: list[str] = []  # where it has read them
        self._sought: str | None = None  # the relation it seeks in this hop; None: not decided yet
        self._num_searches = 0  # in this hop
        self._has_enough = False

    def next(
        self, rng: np.random.Generator, opened: Sequence[str], results: Sequence[str], turns_left: int
    ) -> ToolCall:
        """Return its next action, given the pages opened so far and the results of the last search."""
        self._read(rng, opened)
        if self._has_enough or turns_left <= 1:
            return self._answer()
        mine = [title for title in results if self._shelf.entities.get(title) == self._values[-1]]
        closed = [title for title in mine if title not in opened]
        if self._num_searches and closed:
            others = [title for title in results if title not in opened and title != closed[0]]
            return ToolCall(name="open", arguments={"page": self._choose(rng, closed[0], others)})
        if self._num_searches < (1 if mine else _MAX_SEARCHES):
            self._num_searches += 1
            return ToolCall(name="search", arguments={"query": f"{self._seek(rng)} {self._values[-1]}"})
        return self._answer()

    def _read(self, rng: np.random.Generator, opened: Sequence[str]) -> None:
        """Take every value that the opened pages give, hop by hop."""
        while not self._has_enough:
            fact = self._shelf.world.facts.get((self._values[-1], self._seek(rng)))
            if fact is None or fact.page not in opened:
                return
            self._values.append(self._value(rng, fact.page, fact.value))
            self._pages.append(fact.page)
            self._sought, self._num_searches = None, 0
            is_last = len(self._values) > len(self._relations)
            self._has_enough = is_last or rng.random() < self._mistakes.early_answer

    def _seek(self, rng: np.random.Generator) -> str:
        """Return the relation it seeks in this hop, decided once."""
        if self._sought is None:
            right = self._relations[len(self._values) - 1]
            kind = self._shelf.world.entities[self._values[-1]]
            others = [relation for relation in RELATIONS[kind] if relation != right]
            self._sought = str(rng.choice(others)) if rng.random() < self._mistakes.wrong_relation else right
        return self._sought

    def _choose(self, rng: np.random.Generator, page: str, others: Sequence[str]) -> str:
        return str(rng.choice(others)) if others and rng.random() < self._mistakes.wrong_page else page

    def _value(self, rng: np.random.Generator, page: str, value: str) -> str:
        others = [fact.value for fact in self._shelf.world.facts.values() if fact.page == page and fact.value != value]
        return str(rng.choice(others)) if others and rng.random() < self._mistakes.wrong_value else value

    def _answer(self) -> ToolCall:
        cited = {"citations": list(dict.fromkeys(self._pages))} if self._pages else {}
        return ToolCall(name="answer", arguments={"text": self._values[-1], **cited})
