"""Where a statement of Python stands in its file: its lines, from 1 on, those of its decorators among them."""

from __future__ import annotations

import ast


def first_line(node: ast.stmt) -> int:
    """Return where a statement begins; a definition begins with its decorators."""
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def lines_of(node: ast.stmt) -> range:
    """Return the numbers of a statement's lines."""
    return range(first_line(node), (node.end_lineno or node.lineno) + 1)
