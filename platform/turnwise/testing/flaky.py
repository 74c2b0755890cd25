"""`turnwise/Flaky-v0`: a counting game that raises, hangs and returns nonsense, as often as it is told.

Fault tests run it to see that failures are retried, counted and never scored. An episode that nothing befell is worth
exactly 1.0 on `outcome`, whatever was said in it. Faults depend on the episode's seed and on how many episodes
this process has begun, so that a retry meets other luck; they are therefore not reproducible across processes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from turnwise.env.base import TurnEnv
from turnwise.errors import UserError
from turnwise.records import Message

_EPISODES = itertools.count()  # begun in this process

NONSENSE: tuple[Any, ...] = (
    None,
    "not five values",
    (None, 0.0, False, False, {}),
    ([{"role": "user"}], 0.0, False, False, {}),
    ([{"role": "user", "content": "more"}], float("nan"), False, False, {}),
    ([{"role": "user", "content": "more"}], 0.0, False, False, None),
)
"""What `step` returns where nonsense was drawn; none of it is what the API allows."""


class FlakyEnv(TurnEnv):
    """Count to `num_turns`; any text is a valid action."""

    instructions = "Say anything."
    sample_actions = ("yes", "no", "0")

    def __init__(
        self,
        *,
        raise_p: float = 0.0,
        hang_p: float = 0.0,
        nonsense_p: float = 0.0,
        reset_raise_p: float = 0.0,
        hang_s: float = 3600.0,
        num_turns: int = 3,
        render_mode: str | None = None,
    ) -> None:
        """Set the probabilities of each fault a step (`reset_raise_p`: a reset), and how long a hang lasts."""
        super().__init__(render_mode)
        self._raise_p, self._hang_p = _probability("raise_p", raise_p), _probability("hang_p", hang_p)
        self._nonsense_p = _probability("nonsense_p", nonsense_p)
        self._reset_raise_p = _probability("reset_raise_p", reset_raise_p)
        self._hang_s, self._length = hang_s, num_turns
        self._luck = np.random.default_rng(0)

    def begin(self, options: Mapping[str, Any]) -> str:
        """Draw the episode's luck and begin to count."""
        seed = int(options.get("episode_seed") or self.task_seed)
        self._luck = np.random.default_rng([seed, next(_EPISODES)])
        if self._luck.random() < self._reset_raise_p:
            raise RuntimeError("flaky: raised in reset")
        return f"step 0 of {self._length}"

    def act(self, action: Message) -> str:
        """Count on; the last action is worth 1.0."""
        if self.num_turns >= self._length:
            self.reward("outcome", 1.0)
            self.finish()
        return f"step {self.num_turns} of {self._length}"

    def step(self, action: Any) -> Any:
        """Carry out an action, or fail in one of the ways that were asked for."""
        if self._luck.random() < self._raise_p:
            raise RuntimeError("flaky: raised in step")
        if self._luck.random() < self._hang_p:
            time.sleep(self._hang_s)
        if self._luck.random() < self._nonsense_p:
            return NONSENSE[int(self._luck.integers(len(NONSENSE)))]
        return super().step(action)

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return a word."""
        return str(rng.choice(("yes", "no")))


def _probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"env.kwargs.{name}", value, "not a probability", "give a number from 0 to 1")
    return value
