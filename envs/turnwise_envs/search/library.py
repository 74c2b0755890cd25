"""Pages that can be searched and opened, and the shelf of worlds that episodes of one task share.

`SearchEnv` asks for a library by seed or by file. Ranking is BM25 (the method of Lucene) over the title, twice, and
the text, in lower-case words. Nothing here is stemmed: a query finds the words that it names.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from turnwise_envs.search.world import World, generate_world

MAX_WORLDS = 256
"""Worlds kept in a process; the episodes of a group start together, so a few hundred are plenty."""

_WORDS = re.compile(r"\w+")
_LOCK = threading.Lock()


class Library:
    """Pages by title, with a search index; safe to read from many threads."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Index pages given as title -> text."""
        import bm25s  # a tenth of a second that only a search environment should pay

        self.texts = dict(texts)
        self._titles = list(self.texts)
        self._by_folded = {_fold(title): title for title in reversed(self._titles)}
        self._vocabulary: dict[str, int] = {}
        ids = [self._index_words(f"{title} {title} {text}") for title, text in self.texts.items()]
        self._index = bm25s.BM25(method="lucene")
        if self._vocabulary:
            self._index.index((ids, self._vocabulary), create_empty_token=False, show_progress=False)

    def title(self, name: str) -> str | None:
        """Return the title that a name means (case and spacing do not matter); None if no page has it."""
        return name if name in self.texts else self._by_folded.get(_fold(name))

    def search(self, query: str, top_k: int) -> tuple[str, ...]:
        """Return up to `top_k` titles, best first; pages that share no word with the query are not among them."""
        words = dict.fromkeys(_WORDS.findall(query.lower()))
        ids = [self._vocabulary[word] for word in words if word in self._vocabulary]
        if not ids:
            return ()
        return tuple(self._titles[i] for i in _best(self._index.get_scores_from_ids(ids), top_k))

    def _index_words(self, text: str) -> list[int]:
        vocabulary = self._vocabulary
        return [vocabulary.setdefault(word, len(vocabulary)) for word in _WORDS.findall(text.lower())]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """A world and its library."""

    world: World
    library: Library
    entities: Mapping[str, str]  # page title -> the entity whose facts it holds


def shelf(seed: int, num_entities: int) -> Shelf:
    """Return the world of a seed, made once for all episodes that ask at about the same time."""
    with _LOCK:
        return _make_shelf(seed, num_entities)


@lru_cache(maxsize=MAX_WORLDS)
def _make_shelf(seed: int, num_entities: int) -> Shelf:
    world = generate_world(seed, num_entities)
    library = Library({page.title: page.text for page in world.pages})
    return Shelf(world=world, library=library, entities={page.title: page.entity for page in world.pages})


def _best(scores: np.ndarray, top_k: int) -> Sequence[int]:
    """Return the indices of the highest positive scores, ties in order of index."""
    found = np.flatnonzero(scores > 0)
    if len(found) > 16 * top_k:
        kept = np.partition(scores[found], len(found) - top_k)[-top_k]
        found = found[scores[found] >= kept]
    order = np.argsort(-scores[found], kind="stable")[:top_k]
    best: list[int] = found[order].tolist()
    return best


def _fold(title: str) -> str:
    return " ".join(title.casefold().split())
