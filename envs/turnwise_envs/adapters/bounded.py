"""Rewards of other makers' environments as an outcome whose sum over an episode stays within -1 and 1."""

from __future__ import annotations

import math
from typing import Any

from turnwise.errors import EnvError


class Bounded:
    """A sum that is kept within -1 and 1."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.total = 0.0

    def add(self, reward: Any) -> float:
        """Return by how much a reward moves the sum; None is 0. EnvError for what is no finite number."""
        value = 0.0 if reward is None else reward
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise EnvError(f"the environment's reward is {str(reward)[:80]}, not a number")
        before, self.total = self.total, max(-1.0, min(1.0, self.total + value))
        return self.total - before
