"""The lessons that the tiny base model learns from: copying first, then reading pages and following one-step requests.

`train` packs lessons into rows; `make` measures accuracy on fresh ones. A lesson is a list of pieces: text and the
name of the slot that it fills, or no name where the text is drawn at random and cannot be predicted. No lesson holds a
question of more than one hop, nor a whole episode: what to do when is for the warm start and the policy to learn.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from tiny_model.tokenizer import END, build_tokenizer, word_list
from turnwise_envs.search.lexicon import RELATIONS
from turnwise_envs.search.world import Fact, Page, World, generate_world, question_text

Piece = tuple[str | Sequence[int], str]  # text or token ids; slot name, "" where it is not in the loss
Lesson = Callable[[np.random.Generator], list[Piece]]

SLOTS: Final = ("", "copy", "recall", "echo", "value", "title", "action", "end")
NUM_SPECIALS: Final = 6
_NUM_BYTES: Final = 256
_TOKEN: Final = re.compile(r"<\|\w+\|>| ?\w+| ?(?:(?!<\|)[^\w\s])+|\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Packed lessons of one training step."""

    ids: np.ndarray  # [rows, length] int64
    """Token ids."""
    slots: np.ndarray  # [rows, length] int64
    """Index into `SLOTS` of every token; 0 where it is not predicted."""


def encode(text: str) -> list[int]:
    """Encode as the tokenizer does, faster, for texts of known words and marks."""
    return [i for token in _TOKEN.findall(text) for i in _encode_token(token)]


@cache
def _encode_token(token: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(token))


_tokenizer = cache(build_tokenizer)


def _told(role: str, text: str) -> Piece:
    """Write a message that nobody could predict."""
    return f"<|{role}|> {text}{END}", ""


def _done(*parts: tuple[str, str]) -> list[Piece]:
    """Write the assistant's message from (text, slot) parts, each text starting with its space."""
    return [("<|assistant|>", ""), *parts, (END, "end")]


def _random_ids(rng: np.random.Generator, count: int) -> list[int]:
    """Draw any tokens but special ones; bytes are rarer than words."""
    first_word = NUM_SPECIALS + _NUM_BYTES
    words = rng.integers(first_word, first_word + len(word_list()), count)
    symbols = rng.integers(NUM_SPECIALS, first_word, count)
    return list(map(int, np.where(rng.random(count) < 0.05, symbols, words)))


def _random_words(rng: np.random.Generator, count: int) -> list[str]:
    words = [word for word in word_list() if word.isalnum()]
    return [words[i] for i in rng.choice(len(words), count, replace=False)]


def _pick(rng: np.random.Generator, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included."""
    return int(rng.integers(low, high + 1))


def repeat(rng: np.random.Generator, low: int = 4, high: int = 40) -> list[Piece]:
    """Repeat a random sequence; only the repetition can be predicted, from its second token on."""
    ids = _random_ids(rng, _pick(rng, low, high))
    return [(ids, ""), (ids[:1], ""), (ids[1:], "copy")]


def repeat_short(rng: np.random.Generator) -> list[Piece]:
    """Repeat a handful of tokens."""
    return repeat(rng, 3, 6)


def repeat_medium(rng: np.random.Generator) -> list[Piece]:
    """Repeat about ten tokens."""
    return repeat(rng, 6, 12)


def recall(rng: np.random.Generator, low: int = 2, high: int = 12) -> list[Piece]:
    """State keys with values, then the same in another order."""
    count = _pick(rng, low, high)
    words = _random_words(rng, 2 * count)
    pairs = list(zip(words[:count], words[count:], strict=True))
    stated = " ".join(f"{key}: {value}." for key, value in pairs)
    asked = [pairs[i] for i in rng.permutation(count)]
    recalled = [piece for key, value in asked for piece in ((f" {key}:", ""), (f" {value}", "recall"), (".", "end"))]
    return [(" " + stated, ""), *recalled]


def recall_short(rng: np.random.Generator) -> list[Piece]:
    """Recall two to four values."""
    return recall(rng, 2, 4)


def echo(rng: np.random.Generator) -> list[Piece]:
    """Say what the user said, with other roles' messages around it."""
    noise = [_told(role, " ".join(_random_words(rng, _pick(rng, 1, 8)))) for role in ("system", "tool")]
    ids = _random_ids(rng, _pick(rng, 1, 16))
    said: list[Piece] = [("<|user|>", ""), (ids, ""), (END, "")]
    replied: list[Piece] = [("<|assistant|>", "end"), (ids, "echo"), (END, "end")]
    return [*noise[: _pick(rng, 0, 2)], *said, *replied]


def choose(rng: np.random.Generator) -> list[Piece]:
    """Look up words in a numbered or named list: `red: 17. door: 4.` and then `door`."""
    count = _pick(rng, 2, 10)
    words = _random_words(rng, 2 * count)
    pairs = list(zip(words[:count], words[count:], strict=True))
    shown = _told("tool", " ".join(f"{key}: {value}." for key, value in pairs))
    asked = [pairs[i] for i in rng.integers(0, count, _pick(rng, 1, 5))]
    return [shown, *(p for key, value in asked for p in (_told("user", key), *_done((f" {value}", "recall"))))]


def _draw_world(rng: np.random.Generator) -> World:
    return generate_world(int(rng.integers(2**31)), num_entities=_pick(rng, 10, 40))


def _draw_pages(rng: np.random.Generator, world: World, count: int) -> list[Page]:
    return [world.pages[i] for i in rng.permutation(len(world.pages))[:count]]


def _facts_on(world: World, pages: Sequence[Page]) -> list[Fact]:
    titles = {page.title for page in pages}
    return [fact for fact in world.facts.values() if fact.page in titles]


def read(rng: np.random.Generator) -> list[Piece]:
    """Read values off opened pages: `founder of Acme` asks for `answer Vera | Acme notes`."""
    world = _draw_world(rng)
    pages = _draw_pages(rng, world, _pick(rng, 1, 9))
    opened = [piece for page in pages for piece in (_told("assistant", f"open {page.title}"), _told("tool", page.text))]
    facts = _facts_on(world, pages)
    asked = [facts[i] for i in rng.permutation(len(facts))[: _pick(rng, 2, 8)]]
    return [*opened, *(piece for fact in asked for piece in _read_one(fact))]


def _read_one(fact: Fact) -> list[Piece]:
    asked = _told("user", f"{fact.relation} of {fact.subject}")
    return [asked, *_answer(fact)]


def _answer(fact: Fact) -> list[Piece]:
    return _done((" answer", "action"), (f" {fact.value}", "value"), (" |", "end"), (f" {fact.page}", "title"))


def follow(rng: np.random.Generator) -> list[Piece]:
    """Use the value that the last search was for: in an answer, or in the search that the user names next."""
    world = _draw_world(rng)
    pieces: list[Piece] = []
    for page in _draw_pages(rng, world, _pick(rng, 1, 6)):
        facts = _facts_on(world, [page])
        pieces += _follow_one(rng, world, facts[_pick(rng, 0, 1)], page)
    return pieces


def _follow_one(rng: np.random.Generator, world: World, fact: Fact, page: Page) -> list[Piece]:
    relations = list(RELATIONS[world.entities[fact.value]])
    relation = relations[rng.integers(len(relations))]
    searched = _told("assistant", f"search {fact.relation} {fact.subject}")
    opened = [_told("assistant", f"open {page.title}"), _told("tool", page.text)]
    if rng.random() < 0.5:
        return [searched, *opened, _told("user", "answer"), *_answer(fact)]
    found = _done((f" search {relation}", "action"), (f" {fact.value}", "value"))
    return [searched, *opened, _told("user", f"search {relation}"), *found]


def titles(rng: np.random.Generator) -> list[Piece]:
    """Open a page named by its entity or its place in a result list."""
    world = _draw_world(rng)
    pieces: list[Piece] = []
    for _ in range(_pick(rng, 1, 5)):
        shown = [page.title for page in _draw_pages(rng, world, 3)]
        wanted = _pick(rng, 0, 2)
        unique = [title.split()[0] for title in shown].count(shown[wanted].split()[0]) == 1
        name = shown[wanted].split()[0] if unique and rng.random() < 0.5 else ("first", "second", "third")[wanted]
        opened = _done((" open", "action"), (f" {shown[wanted]}", "title"))
        pieces += [_told("tool", "; ".join(shown)), _told("user", f"open {name}"), *opened]
    return pieces


def ask(rng: np.random.Generator) -> list[Piece]:
    """Turn one-hop questions into searches."""
    facts = list(_draw_world(rng).facts.values())
    pieces: list[Piece] = []
    for fact in (facts[i] for i in rng.integers(0, len(facts), _pick(rng, 1, 4))):
        asked = _told("user", question_text([fact.relation], fact.subject))
        pieces += [asked, *_done((f" search {fact.relation} {fact.subject}", "action"))]
    return pieces


SHORTEST: Final[dict[Lesson, float]] = {repeat_short: 0.6, recall_short: 0.4}
SHORT: Final[dict[Lesson, float]] = {repeat_medium: 0.6, recall_short: 0.4}
COPYING: Final[dict[Lesson, float]] = {repeat: 0.5, recall: 0.3, echo: 0.2}
READING: Final[dict[Lesson, float]] = {
    read: 0.32,
    follow: 0.24,
    titles: 0.12,
    ask: 0.06,
    repeat: 0.06,
    recall: 0.08,
    echo: 0.06,
    choose: 0.06,
}


def draw_rows(lessons: dict[Lesson, float], rows: int, length: int, rng: np.random.Generator) -> Rows:
    """Pack lessons, drawn with the given weights, into rows; the last lesson of a row is cut off."""
    drawn = [_draw_row(lessons, length, rng) for _ in range(rows)]
    return Rows(ids=np.stack([ids for ids, _ in drawn]), slots=np.stack([slots for _, slots in drawn]))


def _draw_row(lessons: dict[Lesson, float], length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ids: list[int] = []
    slots: list[int] = []
    for lesson in _draw_lessons(lessons, rng):
        for content, slot in lesson(rng):
            tokens = encode(content) if isinstance(content, str) else content
            ids += tokens
            slots += [SLOTS.index(slot)] * len(tokens)
        if len(ids) >= length:
            break
    return np.array(ids[:length]), np.array(slots[:length])


def _draw_lessons(lessons: dict[Lesson, float], rng: np.random.Generator) -> Iterator[Lesson]:
    weights = np.array(list(lessons.values()))
    while True:
        yield list(lessons)[rng.choice(len(weights), p=weights / weights.sum())]
