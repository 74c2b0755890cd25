"""A small base of facts about places, and what answers to yes/no questions say about which place is meant.

Everything is exact: probabilities by Bayes' rule, information in bits. Answers may be wrong with a known probability,
independently each time, so that asking again tells something more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise_envs.social.lexicon import ATTRIBUTES, PLACES, is_held_out

Probabilities = NDArray[np.float64]  # [num_entities], adding up to 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Knowledge:
    """Which attributes each place has; no two places have the same."""

    entities: tuple[str, ...]
    attributes: tuple[str, ...]
    has: NDArray[np.bool_]  # [num_entities, num_attributes]

    def text(self) -> str:
        """Return the facts in words, a sentence a place."""
        return " ".join(f"{name} : {' '.join(self.of(name)) or 'nothing'} ." for name in self.entities)

    def of(self, entity: str) -> list[str]:
        """Return the attributes that a place has."""
        row = self.has[self.entities.index(entity)]
        return [name for name, holds in zip(self.attributes, row, strict=True) if holds]


def draw_knowledge(rng: np.random.Generator, num_entities: int, num_attributes: int, is_eval: bool) -> Knowledge:
    """Draw places and their attributes; held-out tasks have sets of attributes that no training task has.

    Attributes differ in how many places have them, so that questions differ in what they tell.
    """
    while True:
        numbers = sorted(int(number) for number in rng.choice(len(ATTRIBUTES), num_attributes, replace=False))
        if is_held_out(numbers) == is_eval:
            break
    shares = rng.uniform(0.15, 0.6, num_attributes)
    rows: dict[tuple[bool, ...], None] = {}
    while len(rows) < num_entities:
        rows[tuple(map(bool, rng.random(num_attributes) < shares))] = None
    return Knowledge(
        entities=tuple(str(name) for name in rng.choice(PLACES, num_entities, replace=False)),
        attributes=tuple(ATTRIBUTES[number] for number in numbers),
        has=np.array(list(rows)),
    )


def entropy(belief: Probabilities) -> float:
    """Return the entropy in bits."""
    known = belief[belief > 0]
    return float(-(known * np.log2(known)).sum()) + 0.0


def updated(belief: Probabilities, has: NDArray[np.bool_], answer: bool, noise: float) -> Probabilities:
    """Return the belief after an answer about an attribute that the places `has`, wrong with probability `noise`."""
    joint = belief * np.where(has == answer, 1.0 - noise, noise)
    return joint / joint.sum()


def expected_gain(belief: Probabilities, has: NDArray[np.bool_], noise: float) -> float:
    """Return how many bits the answer is expected to tell: the mutual information of answer and place."""
    says_yes = float(belief @ np.where(has, 1.0 - noise, noise))
    sure = entropy(np.array([noise, 1.0 - noise]))
    return max(0.0, entropy(np.array([says_yes, 1.0 - says_yes])) - sure)
