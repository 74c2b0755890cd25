"""Random numbers for packages that draw from the process's own: each episode has its stream, whoever else draws.

`random` and numpy's global generator are set aside for the time of a call, one call of a process after the other.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_LOCK = threading.RLock()


class Chance:
    """The random numbers of one episode."""

    def __init__(self, seed: int) -> None:
        """Begin a stream."""
        self._state: tuple[Any, Any] = (
            random.Random(seed).getstate(),
            np.random.RandomState(seed % 2**32).get_state(),
        )

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let what is called inside draw from this stream, and go on with it the next time."""
        with _LOCK:
            outside = _swap(self._state)
            try:
                yield
            finally:
                self._state = _swap(outside)


def _swap(state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Set the process's random numbers and return what they were."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    return before
