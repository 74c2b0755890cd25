"""CaRR: the share of a question's rubrics that are supported and connected to the answer (algorithms.md 2; 2601.06021).

A rubric is an atomic statement about placeholders: E0 is the answer, E1, E2, ... the hidden entities on the way to it.
Two rubrics touch where they share a placeholder. Supported rubrics that a chain of supported ones joins to E0 count:

    R = |reached| / m,    m = all rubrics of the question, those whose entities were not identified included

so a chain of true statements that never leads to the answer earns nothing, and neither does a rubric that names no
placeholder. The mean of `supported` alone (the ablation without the search) pays for both.

A citation-rubric scorer will call this after its judge has said which filled-in statements the cited pages support:
`rubric_reward` as a score of the whole trajectory, or `turn_credit` as one score a turn; they have the same sum. The
normalisation by a group's best trajectory and the mix with the outcome (C-GRPO) come later, where rewards are fused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from turnwise.credit import Array

ROOT = "E0"
"""The placeholder of the answer."""


def connected_rubrics(
    entities: Mapping[str, Collection[str]], supported: Mapping[str, bool], root: str = ROOT
) -> tuple[str, ...]:
    """Return the supported rubrics that are joined to `root`, in the order of `entities`.

    `entities` holds each rubric's placeholders, `supported` the judge's verdict on each rubric. ValueError where the
    two do not name the same rubrics, or where placeholders are a bare string.
    """
    _check(entities, supported)
    reached: set[str] = set()
    visited, frontier = {root}, {root}
    while frontier:
        found = {name for name in entities if supported[name] and not frontier.isdisjoint(entities[name])} - reached
        reached |= found
        frontier = {entity for name in found for entity in entities[name]} - visited
        visited |= frontier
    return tuple(name for name in entities if name in reached)


def rubric_reward(
    entities: Mapping[str, Collection[str]], supported: Mapping[str, bool | None], root: str = ROOT
) -> float | None:
    """Return the share of all rubrics that are reached, in [0, 1]; None where it is not known.

    A verdict of None is one that the judge failed to give. It makes the reward unknown only if it could change what is
    reached. Without rubrics there is nothing to judge, and the reward is missing.
    """
    _check(entities, supported)
    at_least = connected_rubrics(entities, {name: verdict is True for name, verdict in supported.items()}, root)
    at_most = connected_rubrics(entities, {name: verdict is not False for name, verdict in supported.items()}, root)
    return len(at_least) / len(entities) if entities and at_least == at_most else None


def first_evidence(evidence: Mapping[str, Collection[str]], seen: Sequence[Collection[str]]) -> dict[str, int]:
    """Return the turn that first brought a page that supports a rubric; rubrics without such a turn are left out.

    `evidence` holds the cited pages that support each rubric, `seen` the pages in each turn's tool results.
    """
    turns = {
        name: next((turn for turn, pages in enumerate(seen) if not set(pages).isdisjoint(cited)), None)
        for name, cited in evidence.items()
    }
    return {name: turn for name, turn in turns.items() if turn is not None}


def turn_credit(
    connected: Collection[str], first_turn: Mapping[str, int], *, num_rubrics: int, num_turns: int
) -> Array:
    """Return [num_turns] the share of all rubrics that each turn first brought the evidence of; the sum is the reward.

    The form 2 of algorithms.md gives, a R_o (rubrics evidenced at k) / (most reached in the group), is this one times
    a R_o, divided by the group's largest `rubric_reward`. ValueError for a connected rubric without a turn of its own:
    citations count only if a tool returned them, so there is one.
    """
    if len(connected) > num_rubrics:
        raise ValueError(f"{len(connected)} rubrics are connected, but there are only num_rubrics={num_rubrics}")
    credit = np.zeros(num_turns)
    for name in connected:
        turn = first_turn.get(name)
        if turn is None or not 0 <= turn < num_turns:
            raise ValueError(f"rubric {name!r}: its evidence came at turn {turn}, of {num_turns} turns")
        credit[turn] += 1.0 / num_rubrics
    return credit


def _check(entities: Mapping[str, Collection[str]], supported: Mapping[str, bool | None]) -> None:
    if entities.keys() != supported.keys():
        odd = sorted(entities.keys() ^ supported.keys())
        raise ValueError(f"rubrics {odd} have entities or a verdict, not both")
    for name, placeholders in entities.items():
        if isinstance(placeholders, str):
            raise ValueError(f"rubric {name!r}: its entities are the string {placeholders!r}, not a list of strings")
