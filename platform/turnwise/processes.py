"""Finds and ends the processes that carry a mark in their environment: what a cluster of ours left behind.

Every descendant inherits the mark, orphans in sessions of their own included. Linux only; elsewhere nothing is found.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def marked_processes(mark: str) -> list[int]:
    """Return the ids of all processes (but this one) started with `mark`, a text NAME=value, in their environment."""
    wanted = mark.encode()
    entries = [entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) != os.getpid()]
    return [int(entry.name) for entry in entries if wanted in _environment(entry)]


def end_processes(mark: str, grace_s: float) -> list[int]:
    """Wait `grace_s` for marked processes to end, kill the rest, and return the ids that had to be killed."""
    deadline = time.monotonic() + grace_s
    while (alive := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in alive:
        _kill(process)
    return alive


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return
