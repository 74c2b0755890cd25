"""What a pool of sandboxes counts and times."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

WINDOW = 512
"""Starts and leases of which the quantiles are computed."""


class Measures:
    """Counts since the pool began; quantiles of the last `WINDOW`."""

    def __init__(self) -> None:
        """Nothing was started yet."""
        self._starts: deque[float] = deque(maxlen=WINDOW)  # seconds
        self._waits: deque[float] = deque(maxlen=WINDOW)  # seconds
        self._num_starts = self._num_leases = 0
        self.num_failed_starts = 0
        self.num_expired = 0  # leases whose holder was silent
        self.num_replaced = self.num_reset = 0  # after a lease
        self.num_leaks = 0  # sandboxes that did not close
        self.num_orphans = 0  # what killed owners had left

    def started(self, seconds: float) -> None:
        """Count a start."""
        self._num_starts += 1
        self._starts.append(seconds)

    def leased(self, seconds: float) -> None:
        """Count a lease that was waited for so long."""
        self._num_leases += 1
        self._waits.append(seconds)

    def status(self) -> dict[str, Any]:
        """Return counts and seconds as plain JSON."""
        start_p50, start_p95 = _quantiles(self._starts)
        lease_p50, lease_p95 = _quantiles(self._waits)
        return {
            "starts": self._num_starts,
            "failed_starts": self.num_failed_starts,
            "leases": self._num_leases,
            "expired": self.num_expired,
            "replaced": self.num_replaced,
            "reset": self.num_reset,
            "leaks": self.num_leaks,
            "orphans": self.num_orphans,
            "start_p50_s": start_p50,
            "start_p95_s": start_p95,
            "lease_p50_s": lease_p50,
            "lease_p95_s": lease_p95,
        }


def _quantiles(seconds: deque[float]) -> tuple[float, float]:
    median, high = np.quantile(seconds, (0.5, 0.95)) if seconds else (0.0, 0.0)
    return float(median), float(high)
