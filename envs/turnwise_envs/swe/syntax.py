"""Reading Python, by one thread at a time.

While CPython 3.11 makes a tree of a source it counts how deep it is once for all threads, and raises SystemError ("AST
constructor recursion depth mismatch") where another thread made one meanwhile. A rollout worker has a hundred.
"""

from __future__ import annotations

import ast
import threading

_TURN = threading.Lock()


def parse(source: str | bytes) -> ast.Module:
    """Return the tree of a source, as `ast.parse`; SyntaxError or ValueError where it is none."""
    with _TURN:
        return ast.parse(source)
