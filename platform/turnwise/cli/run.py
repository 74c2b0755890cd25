"""What `turnwise train`, `sft` and `submit` share: the words of the command line, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from turnwise.config import Loaded, load_config
from turnwise.config.source import is_override
from turnwise.errors import UserError


def load_words(words: Sequence[str]) -> Loaded:
    """Return the configuration of `[CONFIG.yaml] [key=value ...]`."""
    file, overrides = split_words(words)
    return load_config(file, overrides)


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return (file or None, overrides) of `[CONFIG.yaml] [key=value ...]`."""
    if words and not is_override(words[0]):
        return words[0], list(words[1:])
    return None, list(words)


def check_sft(loaded: Loaded) -> None:
    """Raise UserError for a warm start of no steps."""
    if not loaded.config.sft.steps:
        raise UserError("sft.steps", 0, "no warm start is configured", "set sft.steps to the number of optimizer steps")


def show_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """Print how a run ended: success before and after, episodes, failures by cause, and where everything is."""
    console = Console()
    heldout = summary.get("heldout", {})
    rows = [(when, mode, each) for when, modes in heldout.items() for mode, each in modes.items()]
    if rows:
        table = Table("held-out tasks", "mode", "success", "95 % interval", "episodes", box=SIMPLE)
        for when, mode, each in rows:
            table.add_row(f"{when} training", mode, *success_cells(each))
        console.print(table)
    console.print(f"{summary['status']} after {summary['updates']} updates, {summary['episodes']} episodes")
    failures = ", ".join(f"{label} {count}" for label, count in summary.get("failures", {}).items())
    if failures:
        console.print(f"failures, never counted as rewards: {failures}", markup=False)
    console.print(f"run folder: {folder}", markup=False, soft_wrap=True)


def success_cells(measured: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return success rate, interval and episodes of one measurement as texts."""
    rate, (low, high) = measured["success_rate"], measured["interval_95"]
    episodes = str(measured["episodes"]) + (f" ({measured['failures']} failed)" if measured["failures"] else "")
    return "-" if rate is None else f"{rate:.3f}", f"{low:.3f} to {high:.3f}", episodes
