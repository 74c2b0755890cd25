"""`turnwise/Search-v0`: find the answer to a question of one to four hops in an encyclopedia of linked pages.

A task is a world and a question drawn from its seed, or one of the user's own tasks over the user's own corpus.
Rewards: `outcome` (1 or 0, when the episode is answered), `citation` (at the answer: share of the gold pages both
opened and cited), `format` (-1 for an action that cannot be carried out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from turnwise.env import ToolEnv, tool
from turnwise.env.calls import spell_compact
from turnwise.errors import InvalidAction, UserError
from turnwise_envs.arguments import numbers, read_mistakes, whole
from turnwise_envs.search.corpus import Corpus, load_corpus
from turnwise_envs.search.library import Library, Shelf, shelf
from turnwise_envs.search.problem import Problem, problem_of
from turnwise_envs.search.researcher import Mistakes, Researcher, relations_of
from turnwise_envs.search.world import MAX_HOPS, Question, generate_question

_QUESTION_STREAM = 1  # keeps the draw of a question apart from the draw of its world


class SearchEnv(ToolEnv):
    """Search, open pages, answer with citations."""

    instructions = (
        "Answer the question from the encyclopedia. search(query) lists titles of pages, best first; open(page) shows "
        "a page by its title; answer(text, citations) gives the final answer, as short as possible, with the titles "
        "of the pages that show it. A page states facts about one entity only, so a question of several steps needs "
        "several pages."
    )
    sample_actions = (
        "search founder Acme",
        "search mayor Oslo",
        "open Acme notes",
        "answer Oslo | Acme notes",
        "hello",
    )

    def __init__(
        self,
        *,
        hops: int | str | Sequence[int] | None = None,
        num_entities: int | None = None,
        top_k: int = 3,
        max_turns: int | None = None,
        corpus: str | None = None,
        tasks: str | None = None,
        mistakes: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Set up the encyclopedia; UserError for a value that does not fit.

        `hops` of a question: a number, several to draw from, or a range "1-4" (default 2). `num_entities` in a world:
        10 to 150 (default 20). `top_k`: results of a search. `max_turns`: by default 4 more than twice the most hops.
        `corpus` and `tasks`: JSONL files instead of drawn worlds. `mistakes`: changes to the demonstrator's `Mistakes`.
        """
        super().__init__(render_mode)
        for name, value in (("hops", hops), ("num_entities", num_entities), ("mistakes", mistakes)):
            if corpus is not None and value is not None:
                raise UserError(f"env.kwargs.{name}", value, "has no effect on a corpus of your own", "leave it out")
        if (corpus is None) != (tasks is None):
            raise UserError(
                "env.kwargs.corpus", corpus, f"tasks={tasks}: one without the other", "give both or neither"
            )
        self._hops = numbers("hops", 2 if hops is None else hops, MAX_HOPS, "not hops of a question")
        self._num_entities = whole("num_entities", 20 if num_entities is None else num_entities, 10, 150)
        self._top_k = whole("top_k", top_k, 1, 100)
        most_hops = MAX_HOPS if corpus is not None else max(self._hops)
        self.max_turns = 2 * most_hops + 4 if max_turns is None else whole("max_turns", max_turns, 1, 1000)
        self._mistakes = read_mistakes(Mistakes, mistakes)
        self._corpus = None if corpus is None or tasks is None else load_corpus(str(corpus), str(tasks))
        self._problem = Problem(text="", answer="")
        self._library: Library | None = None
        self._question: Question | None = None
        self._shelf: Shelf | None = None
        self._researcher: Researcher | None = None
        self._opened: list[str] = []
        self._results: tuple[str, ...] = ()

    def num_tasks(self, split: str) -> int | None:
        """Return the number of the user's tasks; None for drawn worlds."""
        return None if self._corpus is None else len(self._corpus.problems.get(split, ()))

    def begin(self, options: Mapping[str, Any]) -> str:
        """Draw or look up the task of `task_seed` and ask its question."""
        self._opened, self._results = [], ()
        if self._corpus is None:
            self._begin_world()
        else:
            problems = _problems(self._corpus, options.get("split"))
            self._problem, self._library = problems[self.task_seed % len(problems)], self._corpus.library
        return self._problem.text

    def _begin_world(self) -> None:
        rng = np.random.default_rng([self.task_seed, _QUESTION_STREAM])
        self._shelf = shelf(self.task_seed, self._num_entities)
        self._question = generate_question(self._shelf.world, self._hops[rng.integers(len(self._hops))], rng)
        self._problem, self._library = problem_of(self._question), self._shelf.library
        self._researcher = Researcher(self._question, self._shelf, self._mistakes)

    @tool
    def search(self, query: str) -> str:
        """Search the encyclopedia; lists titles of pages, best first.

        query: a few words, such as a relation and a name
        """
        self._results = self._pages.search(query, self._top_k)
        return "; ".join(self._results) or "error: nothing found"

    @tool
    def open(self, page: str) -> str:
        """Show a page of the encyclopedia.

        page: its title
        """
        title = self._pages.title(page)
        if title is None:
            raise InvalidAction(f"no page {' '.join(page.split())[:80]}")
        if title not in self._opened:
            self._opened.append(title)
        return self._pages.texts[title]

    @tool
    def answer(self, text: str, citations: list[str] | None = None) -> str:
        """Give the final answer, which ends the episode.

        text: the answer, as short as possible
        citations: titles of the pages that show it
        """
        if not text.strip():
            raise InvalidAction("answer needs text")
        is_right = self._problem.is_right(text)
        self.reward("outcome", float(is_right))
        if self._problem.gold_pages:
            shown = {self._pages.title(name) for name in citations or ()} & set(self._opened)
            self.reward("citation", len(shown & set(self._problem.gold_pages)) / len(self._problem.gold_pages))
        self.finish()
        return "correct" if is_right else "wrong"

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed action on the channel `format`."""
        self.reward("format", -1.0)

    def gold(self) -> dict[str, Any]:
        """Return question, answer, aliases, gold pages and rubrics."""
        return self._problem.gold()

    def guide(self) -> str | None:
        """Return what the failed episode lacked: the steps in order, and the first fact that it did not get to.

        Over a corpus of the user's own, the gold pages that were not opened, and nothing where all were. A page that
        the answer names is not named.
        """
        missed = [page for page in self._problem.gold_pages if page not in self._opened]
        if self._question is None:
            named = [page for page in missed if not self._problem.is_told_by(page)]
            return f"not opened: {'; '.join(named)}" if named else None
        relations, chain = relations_of(self._question), self._question.chain
        steps = [f"search {relations[0]} {chain[0]}", *(f"search {relation}" for relation in relations[1:]), "answer"]
        hop = self._question.gold_pages.index(missed[0]) if missed else -1
        where = f"not found: {relations[hop]} of {chain[hop]}" if missed else "all found, answer wrong"
        return f"{'; '.join(steps)}. {where}"

    def state_key(self) -> str:
        """Return a digest of the question, the pages opened (in any order) and the last results."""
        state = "\x1f".join((self._problem.text, "\x1e".join(sorted(self._opened)), "\x1e".join(self._results)))
        return blake2b(state.encode(), digest_size=8).hexdigest()

    def oracle(self, action: str) -> float | None:
        """Return 1 for an action on a shortest path to the answer, 0 for another one, -1 for a malformed one."""
        if self._question is None:
            return None
        try:
            call = self.read_call({"role": "assistant", "content": action})
        except InvalidAction:
            return -1.0
        hop = next((i for i, page in enumerate(self._question.gold_pages) if page not in self._opened), None)
        if call.name == "answer":
            return float(hop is None and self._problem.is_right(call.arguments["text"]))
        if hop is None:
            return 0.0
        page = self._question.gold_pages[hop]
        if call.name == "open":
            return float(self._pages.title(call.arguments["page"]) == page)
        return float(page not in self._results and self._finds(call.arguments["query"], hop))

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return a fallible researcher's next action; None over a corpus of the user's own."""
        if self._researcher is None:
            return None
        turns_left = (self.max_turns or 0) - self.num_turns
        return spell_compact(self._researcher.next(rng, self._opened, self._results, turns_left))

    @property
    def _pages(self) -> Library:
        if self._library is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._library

    def _finds(self, query: str, hop: int) -> bool:
        """Whether a query names the relation and the entity of a hop, and its page is among the results."""
        question = self._question
        if question is None:
            return False
        names = {relations_of(question)[hop], question.chain[hop].lower()}
        return names <= set(query.lower().split()) and question.gold_pages[hop] in self._pages.search(
            query, self._top_k
        )


def _problems(corpus: Corpus, split: str | None) -> Sequence[Problem]:
    """Return the problems of a split, or of both if none is named; UserError for a split without any."""
    if split is None:
        return [problem for found in corpus.problems.values() for problem in found]
    if not corpus.problems.get(split):
        remedy = f'give some of the tasks "split": "{split}"'
        raise UserError("env.kwargs.tasks", split, "empty task set: no tasks of this split", remedy)
    return corpus.problems[split]
