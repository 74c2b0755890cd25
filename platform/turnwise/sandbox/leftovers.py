"""What killed owners of sandboxes left behind. A pool clears it away at its start and from time to time.

Only what bears our own mark is touched, and only where its owner is gone: empty control groups, and containers.
"""

from __future__ import annotations

from turnwise.sandbox import SandboxLost
from turnwise.sandbox.cgroup import sweep
from turnwise.sandbox.daemon import daemon, unreachable
from turnwise.sandbox.reaper import reap


def clear() -> int:
    """Clear away what has no owner any more; return how much that was."""
    return sweep() + _containers()


def _containers() -> int:
    if unreachable():
        return 0
    try:
        return len(reap(daemon()))
    except SandboxLost:  # a daemon that has just gone
        return 0
