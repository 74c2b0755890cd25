"""What is asked: one question with the answers that count as right and the pages that show it.

`SearchEnv` gets problems from its generated world, or (`corpus`) from the user's tasks. Answers are compared as
words: case, punctuation, articles and spacing do not matter; anything beyond that needs an alias.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnwise_envs.search.world import Question

_ARTICLES = frozenset(("a", "an", "the"))
_NO_WORD = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question and what is known about its answer."""

    text: str
    answer: str
    aliases: tuple[str, ...] = ()  # other right answers
    gold_pages: tuple[str, ...] = ()  # titles of the pages that show the answer, in order of the hops; all different
    rubrics: tuple[dict[str, Any], ...] = ()  # {"statement", "entities", "page"} each
    entities: Mapping[str, str] = field(default_factory=dict)  # placeholder of the rubrics -> name, where known

    def is_right(self, answer: str) -> bool:
        """Whether an answer equals the right one, or an alias, as words."""
        return normalize(answer) in {normalize(right) for right in (self.answer, *self.aliases)}

    def is_told_by(self, text: str) -> bool:
        """Whether a text holds the right answer, or an alias, as words in a row."""
        words = f" {normalize(text)} "
        return any(f" {normalize(right)} " in words for right in (self.answer, *self.aliases))

    def gold(self) -> dict[str, Any]:
        """Return it as plain JSON, for scorers."""
        return {
            "question": self.text,
            "answer": self.answer,
            "aliases": list(self.aliases),
            "pages": list(self.gold_pages),
            "rubrics": [dict(rubric) for rubric in self.rubrics],
            "entities": dict(self.entities),
        }


def problem_of(question: Question) -> Problem:
    """Return a generated question as a problem."""
    return Problem(
        text=question.text,
        answer=question.answer,
        gold_pages=question.gold_pages,
        entities={f"E{place}": name for place, name in enumerate(reversed(question.chain[1:]))},
        rubrics=tuple(
            {"statement": rubric.statement, "entities": sorted(rubric.entities), "page": rubric.page}
            for rubric in question.rubrics
        ),
    )


def normalize(answer: str) -> str:
    """Return an answer's words in lower case without punctuation and articles, which stay if there is nothing else."""
    folded = unicodedata.normalize("NFKC", answer).casefold()
    words = _NO_WORD.sub("", folded).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words or folded.split())
