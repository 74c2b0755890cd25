"""Draws from a generator, many numbers at a time: one by one they would cost more than all the rest of a reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_NUM_AT_ONCE = 64


class Luck:
    """The draws of one task."""

    def __init__(self, rng: np.random.Generator) -> None:
        """All draws follow from the generator's state."""
        self._rng = rng
        self._left: list[float] = []

    def chance(self, probability: float) -> bool:
        """Return true with a probability."""
        return self._next() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[int(self._next() * len(items))]

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """Return so many of the items, in random order; ValueError for more than there are."""
        if count > len(items):
            raise ValueError(f"{count} of {len(items)} items")
        pool = list(items)
        for i in range(count):
            j = i + int(self._next() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]

    def _next(self) -> float:
        if not self._left:
            self._left = self._rng.random(_NUM_AT_ONCE).tolist()
        return self._left.pop()
