"""Finds and ends the processes that carry a mark in their environment: what a cluster of ours left behind.

Every descendant inherits the mark, orphans in sessions of their own included. Linux only; elsewhere nothing is found.
Run as a program (`start_reaper` does) it waits until whoever started it is gone, killed or not, and ends what is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
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


def start_reaper(mark: str, grace_s: float, *folders: str) -> subprocess.Popen[bytes]:
    """Start a process that ends the marked ones `grace_s` after this process died or closed the reaper's `stdin`.

    Then it removes the folders; `communicate` asks for that and waits. It lives in a session of its own, bears no mark
    of ours and is nobody's child, so that what interrupts this process, or ends it and its children, spares it.
    """
    command = [sys.executable, "-I", __file__, mark, str(grace_s), *folders]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNWISE_")}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
    process.wait()  # until it has left its place to a child of its own
    return process


def _reap(mark: str, grace_s: float, folders: Sequence[str]) -> None:
    sys.stdin.buffer.read()  # ends when the last holder of the pipe's other end is gone
    end_processes(mark, grace_s)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


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


if __name__ == "__main__":
    if os.fork() == 0:  # Ray kills the children of a worker that ends
        _reap(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
