"""What a policy reads of a page: a line a row, indented, in the order of the document; all of it, or what changed.

    [4] textbox "Name" value="Bob" focused
    [5] button "Submit" disabled

`page.js` makes the rows in a browser; `reading.py` makes them of plain HTML, by the rules at its head. Small models may
read a brief line instead, whose words are all apart: `4 textbox Name value Bob`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

quoted = json.JSONEncoder(ensure_ascii=False).encode
"""A text as it stands in a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One element that is shown, or one text of it."""

    depth: int
    bid: str  # how actions name the element: a number, behind a letter within a frame
    role: str
    name: str
    states: tuple[str, ...] = ()  # "checked", "value=\"Bob\"", "color=red", "at=10,20,30x40" (x, y, width, height)
    bottom: float = 0.0  # pixels below the window's upper edge

    @property
    def line(self) -> str:
        """The row as it is read."""
        name = [quoted(self.name)] if self.name else []
        return " ".join([f"{'  ' * self.depth}[{self.bid}]", self.role, *name, *self.states])

    @property
    def brief(self) -> str:
        """The row in words with spaces between them, without where the focus is."""
        value = ["value", self.value] if self.value else []
        states = [state for state in self.states if state != "focused" and not state.startswith("value=")]
        return " ".join(filter(None, [self.bid, self.role, self.name, *value, *states]))

    @property
    def value(self) -> str:
        """What has been entered; empty if nothing has, or nothing can be."""
        found = next((state for state in self.states if state.startswith("value=")), 'value=""')
        return str(json.loads(found.removeprefix("value=")))


def rows_of(data: Iterable[Sequence[Any]], prefix: str = "", depth: int = 0) -> list[Row]:
    """Return the rows that `page.js` made in a frame whose letter is `prefix`, `depth` deeper; no text is believed."""
    return [
        Row(
            depth=depth + int(row[0]),
            bid=f"{prefix}{int(row[1])}",
            role=_one_line(row[2]),
            name=_one_line(row[3]),
            states=tuple(_one_line(state) for state in row[4]),
            bottom=float(row[5]),
        )
        for row in data
    ]


def clipped(rows: Sequence[Row], max_chars: int, *, is_brief: bool = False) -> list[str]:
    """Return the lines of as many rows as fit; if not all do, those above the window are the first to be left out."""
    lines = [row.brief if is_brief else row.line for row in rows]
    if sum(len(line) + 1 for line in lines) <= max_chars:
        return lines
    first = next((place for place, row in enumerate(rows) if row.bottom > 0), 0)
    shown, left = [f"({first} lines above)"] if first else [], max_chars
    for line in lines[first:]:
        left -= len(line) + 1
        if left < 0:
            break
        shown.append(line)
    num_below = len(lines) - first - (len(shown) - bool(first))
    return [*shown, f"({num_below} lines below: scroll to see them)"] if num_below else shown


def changes(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the lines that went, behind `- `, and those that came, behind `+ `; all if that is less."""
    changed = [line for line in difflib.ndiff(before, after) if line.startswith(("- ", "+ "))]
    if not changed:
        return ["(nothing changed)"]
    return changed if sum(map(len, changed)) < sum(map(len, after)) else list(after)


def _one_line(text: Any) -> str:
    """Return a text that a page gave, without what breaks a line or cannot be encoded."""
    return " ".join(str(text).encode(errors="replace").decode().splitlines())
