"""The run as seen in the terminal: a live table where there is a terminal, else one plain line an update.

The controller calls `update` with a `Snapshot` whenever something moved. A fault of the display (a closed pipe, an odd
terminal) turns the display off and nothing else. Not promised: every snapshot is shown; they are thinned out.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

_BARS = "▁▂▃▄▅▆▇█"
_MIN_INTERVAL_S = 0.1
_HISTORY = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Where a run stands."""

    run: str
    update: int  # updates done
    total_updates: int
    stage: str = ""  # at work now
    phases: Mapping[str, int] = field(default_factory=dict)  # running episodes by phase: reset, generate, step, ...
    episodes: int = 0  # finished for the next update
    episodes_needed: int = 0
    reward: float | None = None  # mean of the last update's batch
    success: float | None = None  # its share of successes, 0 to 1
    staleness: float | None = None  # updates behind, mean
    tokens_per_s: float | None = None
    episodes_per_s: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)  # by `Failure.label`, since the start
    elapsed_s: float = 0.0


class Progress:
    """Shows snapshots; use it as a context manager so that the terminal is given back."""

    def __init__(self, *, is_quiet: bool = False, stream: TextIO | None = None) -> None:
        """Show on `stream` (standard output); `is_quiet` shows nothing."""
        self._stream = stream or sys.stdout
        self._is_off = is_quiet
        self._live: Live | None = None
        self._rewards: list[float | None] = []
        self._successes: list[float | None] = []
        self._last_update = -1
        self._shown_at = -math.inf

    def __enter__(self) -> Progress:
        if not self._is_off and self._stream.isatty():
            self._guard(self._start)
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._guard(self._live.stop)

    def update(self, snapshot: Snapshot) -> None:
        """Show where the run stands. Never raises and never blocks for long."""
        is_new = snapshot.update != self._last_update
        if is_new and snapshot.update > 0:
            self._rewards = [*self._rewards, snapshot.reward][-_HISTORY:]
            self._successes = [*self._successes, snapshot.success][-_HISTORY:]
        self._last_update = snapshot.update
        if not self._is_off:
            self._guard(self._show, snapshot, is_new)

    def note(self, text: str) -> None:
        """Say what goes on outside the loop of updates; in a live display, `Snapshot.stage` says it."""
        if not self._is_off and self._live is None:
            self._guard(self._print, text)

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _start(self) -> None:
        from rich.live import Live

        self._live = Live(console=_console(self._stream), auto_refresh=False)
        self._live.start()

    def _show(self, snapshot: Snapshot, is_new: bool) -> None:
        if self._live is None:
            if is_new and snapshot.update > 0:
                print(plain_line(snapshot), file=self._stream, flush=True)
        elif is_new or time.monotonic() - self._shown_at >= _MIN_INTERVAL_S:
            self._live.update(render(snapshot, self._rewards, self._successes), refresh=True)
            self._shown_at = time.monotonic()

    def _guard(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:  # noqa: BLE001 - a border: whatever the terminal does, the run goes on
            self._turn_off()

    def _turn_off(self) -> None:
        self._is_off = True
        live, self._live = self._live, None
        if live is not None:
            with suppress(Exception):
                live.stop()


def plain_line(snapshot: Snapshot) -> str:
    """Return the line that stands for an update where there is no terminal."""
    parts = [f"update {snapshot.update}/{snapshot.total_updates}", f"{_clock(snapshot.elapsed_s)}"]
    for name, value, form in _figures(snapshot):
        if value is not None:
            parts.append(f"{name} {value:{form}}")
    if snapshot.failures:
        parts.append(f"failures {_counts(snapshot.failures)}")
    return "  ".join(parts)


def sparkline(values: Sequence[float | None], low: float | None = None, high: float | None = None) -> str:
    """Return values as a row of bars between `low` and `high` (their own range by default); a blank where missing."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    bottom = min(known) if low is None else low
    span = (max(known) if high is None else high) - bottom
    return "".join(_bar(value, bottom, span) for value in values)


def render(snapshot: Snapshot, rewards: Sequence[float | None], successes: Sequence[float | None]) -> Group:
    """Return the live display as a rich renderable."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(snapshot.run, style="bold cyan"),
        Text(f"update {snapshot.update}/{snapshot.total_updates}", style="bold"),
        ProgressBar(total=max(snapshot.total_updates, 1), completed=snapshot.update, width=30),
        Text(_clock(snapshot.elapsed_s), style="dim"),
        Text(snapshot.stage, style="yellow"),
    )
    body = Table.grid(padding=(0, 2))
    for name, text in _rows(snapshot, rewards, successes):
        style = "red" if name == "failures" and snapshot.failures else ""
        body.add_row(Text(name, style="dim"), Text(text, style=style))
    return Group(head, body)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class PatientConsole(Console):
        def on_broken_pipe(self) -> None:
            raise OSError("the reader of the terminal is gone")  # rich would end the process

    return PatientConsole(file=stream)


def _rows(
    snapshot: Snapshot, rewards: Sequence[float | None], successes: Sequence[float | None]
) -> list[tuple[str, str]]:
    rollouts = f"{snapshot.episodes}/{snapshot.episodes_needed} finished"
    running = f", running: {_counts(snapshot.phases)}" if snapshot.phases else ""
    speed = f"{_number(snapshot.tokens_per_s, '.0f')} tokens/s, {_number(snapshot.episodes_per_s, '.1f')} episodes/s"
    return [
        ("rollouts", rollouts + running),
        ("reward", f"{_number(snapshot.reward, '.3f'):>6}  {sparkline(rewards)}"),
        ("success", f"{_number(snapshot.success, '.3f'):>6}  {sparkline(successes, 0.0, 1.0)}"),
        ("staleness", f"{_number(snapshot.staleness, '.2f'):>6}"),
        ("speed", speed),
        ("failures", _counts(snapshot.failures) or "none"),
    ]


def _figures(snapshot: Snapshot) -> list[tuple[str, float | None, str]]:
    return [
        ("reward", snapshot.reward, ".3f"),
        ("success", snapshot.success, ".3f"),
        ("staleness", snapshot.staleness, ".2f"),
        ("tokens/s", snapshot.tokens_per_s, ".0f"),
        ("episodes/s", snapshot.episodes_per_s, ".1f"),
    ]


def _bar(value: float | None, bottom: float, span: float) -> str:
    if value is None or not math.isfinite(value):
        return " "
    share = (value - bottom) / span if span > 0 else 0.5
    return _BARS[min(max(int(share * len(_BARS)), 0), len(_BARS) - 1)]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
