"""The tracker of stated beliefs (ReBel): what is so, what one may know of it, and how far a belief agrees.

A belief is `{"state": [...], "task": ..., "prediction": [...]}`. Items of the state are `mug 1 in shelf 2`,
`mug 1 hot`, `holding mug 1` or `holding nothing`, and `searched shelf 2`; the task is the name of a phase.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from turnwise.env.beliefs import belief_texts
from turnwise_envs.household.goal import Goal
from turnwise_envs.household.house import HAND, House, kind_of
from turnwise_envs.household.lexicon import LAMP, ROOMS

WRONG_ITEM: Final = 0.1
"""What an item of the state that is not so costs."""

_TELLING: Final = {LAMP, "nothing", "closed", "done", *(thing for room in ROOMS.values() for thing in room.things)}
_WORD = re.compile(r"[a-z]+")


def facts(house: House, things: Iterable[str]) -> list[str]:
    """Return what is so of some things, of the hand and of the search, as items of a state."""
    chosen = [thing for thing in things if house.places[thing] != HAND]
    return [
        f"holding {house.held or 'nothing'}",
        *(f"{thing} in {house.places[thing]}" for thing in chosen),
        *(f"{thing} {state}" for thing, state in sorted(house.states)),
        *(f"searched {place}" for place in house.receptacles if place in house.searched),
    ]


def known_facts(house: House, goal: Goal) -> list[str]:
    """Return what one who has seen as much may know, as far as the goal goes."""
    wanted = (goal.thing, LAMP) if goal.verb == "examine" else (goal.thing,)
    return facts(house, [thing for thing in house.places if thing in house.seen and kind_of(thing) in wanted])


def agreement(belief: Mapping[str, Any], house: House, goal: Goal) -> dict[str, float]:
    """Return how far a belief's state and task are right, before the action that goes with it.

    The state's is F1 less `WRONG_ITEM` for each wrong item, at least -1: precision over all that is so, unseen things
    included, so that a right guess counts; recall over the known facts of the goal.
    """
    items, known = _items(belief), set(known_facts(house, goal))
    right = items & set(facts(house, house.places))
    precision, recall = len(right) / max(len(items), 1), len(right & known) / len(known)
    state = 2 * precision * recall / (precision + recall) if right else 0.0
    task = str(belief.get("task", "")).strip().lower() == goal.phase(house)
    return {"state": max(-1.0, state - WRONG_ITEM * len(items - right)), "task": float(task)}


def foretold(belief: Mapping[str, Any], command: str, answer: str) -> float:
    """Return the share of the telling words of a belief's prediction that came true; those of the command do not count.

    Telling are kinds of things, `nothing`, `closed` and `done`: the form of answers is no prediction.
    """
    predicted = (_words(" ".join(belief_texts(belief.get("prediction")))) & _TELLING) - _words(command)
    return len(predicted & _words(answer)) / len(predicted) if predicted else 0.0


def key_of(belief: Mapping[str, Any], goal: Goal) -> str:
    """Return a digest of the believed phase, of what is held, and of what is said of things of the goal's kind."""
    items = sorted(item for item in _items(belief) if item.startswith("holding ") or kind_of(item) == goal.thing)
    text = "\n".join([str(belief.get("task", "")).strip().lower(), *items])
    return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def _items(belief: Mapping[str, Any]) -> set[str]:
    return {" ".join(item.lower().replace(" on ", " in ").split()) for item in belief_texts(belief.get("state"))}


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
