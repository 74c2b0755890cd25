"""What killed owners of sandboxes left behind, tier by tier. A pool clears it away at its start and from time to time.

Only what bears our own mark is touched, and only where its owner is gone. A tier that leaves something when its owner
is killed has a function here that removes it and returns how much that was.
"""

from __future__ import annotations

from collections.abc import Callable

from turnwise.sandbox.cgroup import sweep

REAPERS: list[Callable[[], int]] = [sweep]


def reap() -> int:
    """Clear away what has no owner any more; return how much that was."""
    return sum(reaper() for reaper in REAPERS)
