"""One driver a run folder: a lock that a killed process cannot leave behind.

Held through `flock`, so the kernel drops it with its holder; what the file says (process, host, start time) is only
for the message that the second driver prints.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path


class RunLockedError(Exception):
    """Another live process holds the lock; the text names it."""


class RunLock:
    """An exclusive lock on a file, taken at once or not at all."""

    def __init__(self, path: Path) -> None:
        """Take the lock; RunLockedError names the holder, OSError: the file cannot be opened or locked."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write({"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()})
        except BlockingIOError:
            holder = os.pread(self._descriptor, 4096, 0)
            os.close(self._descriptor)
            raise RunLockedError(_describe(holder)) from None
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Give the lock back; the file stays, empty."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _write(self, holder: dict[str, object]) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)


def _describe(data: bytes) -> str:
    try:
        holder = json.loads(data)
        return f"process {holder['pid']} on host {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that is just starting or ending"
