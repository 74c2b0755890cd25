"""An encyclopedia drawn from a seed, and multi-hop questions about it.

`turnwise/Search` serves one world a task; the tiny model's recipe reads the same text formats. The same seed
gives the same world on every machine with the same numpy stream (PCG64). Nothing here searches or judges, and a
question is answerable only through its gold pages: facts have no second page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from turnwise_envs.search.lexicon import NAMES, RELATIONS, SECTIONS

MAX_HOPS: Final = 4
_MIN_ENTITIES: Final = 10  # leaves at least two entities a type, so that a value other than the subject exists
_MAX_ENTITIES: Final = 150  # beyond it the lexicon has too few people
_MAX_DRAWS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the encyclopedia."""

    title: str
    """`<entity> <section word>`; unique in a world."""
    text: str
    """`Acme, a company. founder: Vera. headquarters: Oslo.`"""
    entity: str
    """The entity whose facts the page holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One edge of the world: the relation of the subject has exactly one value, held by one page."""

    subject: str
    """Entity name."""
    relation: str
    """Relation word; it determines the subject's type."""
    value: str
    """Entity name, never the subject."""
    page: str
    """Title of the only page that states the fact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """A single-hop statement over hidden entities (CaRR, arXiv 2601.06021)."""

    statement: str
    """`The birthplace of <E1> is <E0>.`"""
    entities: frozenset[str]
    """Placeholders in the statement; `<E0>` is the answer."""
    page: str
    """Title of the page that supports it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A nested question, its answer and the evidence for it."""

    text: str
    """`What is the birthplace of the founder of Acme?`"""
    hops: int
    """Number of facts to follow, 1 to 4."""
    answer: str
    """Name of the last entity of the chain."""
    gold_pages: tuple[str, ...]  # [hops]
    """Page titles in the order of the hops."""
    chain: tuple[str, ...]  # [hops + 1]
    """Entities from the one that the question names to the answer, all different."""
    rubrics: tuple[Rubric, ...]  # [hops]
    """One statement a hop, in the order of the hops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Entities, their facts, and the pages that state them."""

    pages: tuple[Page, ...]  # [2 * entities]
    """Two pages an entity."""
    facts: Mapping[tuple[str, str], Fact]  # [4 * entities]
    """Facts by (subject, relation)."""
    entities: Mapping[str, str]
    """Entity name to type."""


def generate_world(seed: int, num_entities: int = 20) -> World:
    """Draw a world of `num_entities` (10 to 150) entities, twice as many pages and four times as many facts."""
    if not _MIN_ENTITIES <= num_entities <= _MAX_ENTITIES:
        raise ValueError(f"num_entities={num_entities}: choose {_MIN_ENTITIES} to {_MAX_ENTITIES}")
    rng = np.random.default_rng(seed)
    entities = _draw_entities(rng, num_entities)
    titles = _draw_titles(rng, entities)
    facts = _draw_facts(rng, entities, titles)
    pages = [_write_page(title, entities, facts) for title in titles]
    return World(pages=tuple(pages), facts={(fact.subject, fact.relation): fact for fact in facts}, entities=entities)


def generate_question(world: World, hops: int, rng: np.random.Generator) -> Question:
    """Draw a question of 1 to 4 hops whose chain passes no entity twice."""
    if not 1 <= hops <= MAX_HOPS:
        raise ValueError(f"hops={hops}: choose 1 to {MAX_HOPS}")
    subjects = list(world.entities)
    for _ in range(_MAX_DRAWS):
        path = _walk(world, subjects[rng.integers(len(subjects))], hops, rng)
        if len({path[0].subject, *(fact.value for fact in path)}) == hops + 1:
            return _ask(path)
    raise ValueError(f"hops={hops}: no chain of different entities found in a world of {len(subjects)} entities")


def question_text(relations: Sequence[str], subject: str) -> str:
    """Nest the relations, innermost first, around the subject that the question names."""
    return f"What is the {' of the '.join(reversed(relations))} of {subject}?"


def page_text(entity: str, kind: str, facts: Sequence[tuple[str, str]]) -> str:
    """Write a page's text from (relation, value) pairs."""
    return " ".join([f"{entity}, a {kind}.", *(f"{relation}: {value}." for relation, value in facts)])


def _draw_entities(rng: np.random.Generator, num_entities: int) -> dict[str, str]:
    """Draw names: a fifth of them of each type, and people for the rest."""
    share = num_entities // 5
    counts = dict.fromkeys(NAMES, share) | {"person": num_entities - share * (len(NAMES) - 1)}
    return {NAMES[kind][i]: kind for kind in NAMES for i in rng.permutation(len(NAMES[kind]))[: counts[kind]]}


def _draw_titles(rng: np.random.Generator, entities: Mapping[str, str]) -> list[str]:
    """Draw two titles an entity; an entity's titles stand next to each other."""
    sections = rng.permuted(np.tile(np.arange(len(SECTIONS)), (len(entities), 1)), axis=1)[:, :2]
    return [f"{name} {SECTIONS[i]}" for name, pair in zip(entities, sections, strict=True) for i in pair]


def _draw_facts(rng: np.random.Generator, entities: Mapping[str, str], titles: Sequence[str]) -> list[Fact]:
    """Draw a value for every relation of every entity; its first two facts in random order go to its first page."""
    order = rng.permuted(np.tile(np.arange(4), (len(entities), 1)), axis=1)
    luck = rng.random((len(entities), 4))
    members = {kind: [name for name in entities if entities[name] == kind] for kind in NAMES}
    facts = []
    for i, (subject, kind) in enumerate(entities.items()):
        relations = list(RELATIONS[kind].items())
        for place, j in enumerate(order[i]):
            relation, value_kind = relations[j]
            others = [name for name in members[value_kind] if name != subject]
            value = others[int(luck[i, place] * len(others))]
            facts.append(Fact(subject=subject, relation=relation, value=value, page=titles[2 * i + place // 2]))
    return facts


def _write_page(title: str, entities: Mapping[str, str], facts: Sequence[Fact]) -> Page:
    entity = title.split()[0]
    stated = [(fact.relation, fact.value) for fact in facts if fact.page == title]
    return Page(title=title, text=page_text(entity, entities[entity], stated), entity=entity)


def _walk(world: World, subject: str, hops: int, rng: np.random.Generator) -> list[Fact]:
    """Follow random relations from the subject; may pass an entity twice."""
    path: list[Fact] = []
    for _ in range(hops):
        relations = list(RELATIONS[world.entities[subject]])
        path.append(world.facts[subject, relations[rng.integers(len(relations))]])
        subject = path[-1].value
    return path


def _ask(path: Sequence[Fact]) -> Question:
    hops = len(path)
    hidden = [f"<E{i}>" for i in range(hops - 1, -1, -1)]  # hidden[i] stands for the value of hop i
    return Question(
        text=question_text([fact.relation for fact in path], path[0].subject),
        hops=hops,
        answer=path[-1].value,
        gold_pages=tuple(fact.page for fact in path),
        chain=(path[0].subject, *(fact.value for fact in path)),
        rubrics=tuple(_state(fact, hidden[max(i - 1, 0) : i + 1], first=i == 0) for i, fact in enumerate(path)),
    )


def _state(fact: Fact, hidden: Sequence[str], first: bool) -> Rubric:
    """Write one hop as a rubric; the first hop's subject is the only entity that the question names."""
    subject = fact.subject if first else hidden[0]
    statement = f"The {fact.relation} of {subject} is {hidden[-1]}."
    return Rubric(statement=statement, entities=frozenset(hidden), page=fact.page)
