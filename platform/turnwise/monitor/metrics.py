"""Metrics of a run: one JSON line an update in `metrics.jsonl`, and the same to whatever else listens.

Called by the controller. The file is the record that everything else is drawn from; the other sinks (TensorBoard,
Weights & Biases, Ray) are conveniences: one that raises is dropped with a warning, and the run goes on.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

Metrics = Mapping[str, Any]
"""Values by name: numbers (numpy's too), short texts, or None for "not measured"."""


class Sink(Protocol):
    """Something that metrics go to."""

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Take the finite numbers of one update."""

    def close(self) -> None:
        """Flush what is buffered; no `write` follows."""


class MetricsLog:
    """Appends to `metrics.jsonl` and fans out to sinks."""

    def __init__(self, path: Path, sinks: Sequence[Sink] = ()) -> None:
        """Open the file for appending: on resume, cut it back first (`RunFolder.truncate_metrics`)."""
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        self._sinks = list(sinks)

    def log(self, update: int, metrics: Metrics) -> None:
        """Write one line at once; NaN and infinity become null there and are left out elsewhere."""
        plain = {name: _plain(value) for name, value in metrics.items()}
        line = {"update": update, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **plain}
        self._file.write(f"{json.dumps(line, allow_nan=False)}\n")
        self._file.flush()
        numbers = {name: float(value) for name, value in plain.items() if isinstance(value, int | float)}
        for sink in tuple(self._sinks):
            self._call(sink, "write", update, numbers)

    def close(self) -> None:
        """Close the file and the sinks."""
        for sink in tuple(self._sinks):
            self._call(sink, "close")
        self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, sink: Sink, method: str, *arguments: Any) -> None:
        try:
            getattr(sink, method)(*arguments)
        except Exception as error:  # noqa: BLE001 - a border: foreign loggers may raise anything, and none may end a run
            self._sinks.remove(sink)
            text = f"{type(sink).__name__} is off for the rest of the run: {type(error).__name__}: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`; a last line that is being written is left out, a missing file has none."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
