"""What was found out once about a task need not be found out again: results by what they are a function of.

Surveys and verdicts are functions of file contents, and a training asks for the same ones thousands of times. One
memory a folder is shared by all environments of a process, and through its files by all processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

Plain = Any
"""Plain JSON; anything for a memory of this process alone."""


class Memory:
    """Results by name, computed once; threads that ask for what is being computed wait for it."""

    def __init__(self, folder: Path | None) -> None:
        """Keep results in this folder, or in this process only."""
        self._folder = folder
        self._known: dict[str, Plain] = {}
        self._under_way: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, name: str, contents: str, compute: Callable[[], Plain]) -> Plain:
        """Return what `compute` gives for these contents; its errors are not remembered."""
        key = f"{name}-{hashlib.blake2b(contents.encode(), digest_size=12).hexdigest()}"
        with self._lock:
            turn = self._under_way.setdefault(key, threading.Lock())
        with turn:
            if key not in self._known:
                found = self._read(key)
                self._known[key] = self._write(key, compute()) if found is None else found
            return self._known[key]

    def _read(self, key: str) -> Plain | None:
        if self._folder is None:
            return None
        try:
            return json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _write(self, key: str, found: Plain) -> Plain:
        """Write a result for others, where there is a place for it."""
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                number, path = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
                with os.fdopen(number, "w", encoding="utf-8") as file:
                    json.dump(found, file)
                os.replace(path, self._folder / f"{key}.json")
            except OSError:
                pass  # it is a memory, not a record
        return found


@lru_cache(maxsize=64)
def memory_in(folder: str | None) -> Memory:
    """Return this process's memory of a folder."""
    return Memory(None if folder is None else Path(folder))
