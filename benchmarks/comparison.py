"""What comparisons of trainings over seeds share: files, curves against episodes, the first time at a level, cells.

`held` is what `curves.run_seed` kept of a training, `points` a curve of it: [update, share] for each update.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from turnwise.monitor.curve import smoothed
from turnwise.store.atomic import write_bytes_atomically


def write(results: dict[str, Any], path: Path, draw: Callable[[dict[str, Any], Path], None]) -> None:
    """Write the JSON and, with at least one training, the picture beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
    if results["runs"]:
        draw(results, path.with_suffix(".png"))


def curve(held: dict[str, Any], points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Return episodes and the smoothed shares."""
    updates, values = zip(*points, strict=True)
    per_update = held["episodes"] / held["updates"]
    return [update * per_update for update in updates], smoothed(list(values))


def episodes_to(held: dict[str, Any], points: Sequence[Sequence[float]], level: float) -> float | None:
    """Return the episodes until the smoothed curve first reaches `level`; None if it never does."""
    return next((at for at, value in zip(*curve(held, points), strict=True) if value >= level), None)


def spread(values: Sequence[float | None], shape: str) -> str:
    """Return "mean (lowest to highest)", and how many are missing."""
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    text = f"{shape.format(statistics.mean(known))} ({shape.format(min(known))} to {shape.format(max(known))})"
    return text if len(known) == len(values) else f"{text}, {len(values) - len(known)} never"


def rows_to_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of a head and lines; the first column to the left, the others to the right."""
    ruled = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)
