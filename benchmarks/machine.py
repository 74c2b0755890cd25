"""What a figure was measured on, and how figures are condensed. Every benchmark writes it beside its numbers."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from turnwise.monitor.summary import machine, versions


def described() -> dict[str, Any]:
    """Return processor, cores and versions as plain JSON."""
    return {"cpu": cpu_model(), **machine(), "versions": versions()}


def cpu_model() -> str:
    """Return the processor's name as the kernel tells it, or "unknown"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def load() -> list[float]:
    """Return the load averages of the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    held = sorted(values)
    return {"median": statistics.median(held), "min": held[0], "max": held[-1]}


def sentence(about: dict[str, Any], before: list[float], after: list[float]) -> str:
    """Return machine, load and versions in one line for the foot of a table."""
    names = ("turnwise", "python", "torch", "ray", "transformers")
    used = ", ".join(f"{name} {about['versions'].get(name)}" for name in names)
    return f"{about['cpu']}, {about['usable_cpus']} cores, load {before[0]} before and {after[0]} after; {used}"
