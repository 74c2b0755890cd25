"""The learning curve of a run as a PNG: training by update, held-out points with intervals, staleness and speed.

Called by the controller at checkpoints and at the end; draws from the lines of `metrics.jsonl`
alone. Matplotlib is imported when something is drawn, without a display.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnwise.monitor import names
from turnwise.monitor.summary import wilson_interval
from turnwise.store.atomic import TMP_PREFIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRAIN, _REWARD, _STALENESS, _SPEED = "#4269d0", "#9498a0", "#97591f", "#3ca951"
_MODES = {"sampled": ("#ff725c", "o", -1), "greedy": ("#6c3f9e", "D", 1)}  # colour, marker, side of the point
_SMOOTHING = 0.7  # weight of the past in the moving average

Entry = Mapping[str, Any]


def draw_curve(entries: Sequence[Entry], path: Path, title: str) -> None:
    """Write the PNG atomically; `entries` are the lines of `metrics.jsonl`, of which any may lack any value."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.4), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes: dict[str, Axes] = figure.subplot_mosaic([["main", "main"], ["staleness", "speed"]], height_ratios=[3, 1])
    axes["main"].set_title(title, loc="left", fontsize=12, fontweight="bold", pad=10)
    _draw_main(axes["main"], entries)
    _draw_small(axes["staleness"], entries, names.STALENESS, "staleness (updates)", _STALENESS)
    _draw_small(axes["speed"], entries, names.TOKENS_PER_S, "tokens per second", _SPEED)
    _save(figure, path)


def _draw_main(axes: Axes, entries: Sequence[Entry]) -> None:
    _draw_training(axes, entries, names.REWARD, "reward, training", _REWARD)
    _draw_training(axes, entries, names.SUCCESS, "success, training", _TRAIN)
    for mode in _MODES:
        _draw_heldout(axes, entries, mode)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.02), max(high, 1.04))
    last = max([1, *(int(entry["update"]) for entry in entries)])
    axes.set_xlim(-0.09 * last, 1.09 * last)  # room for the labels of the first and last points
    axes.set_ylabel("success rate, reward")
    _dress(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=9, framealpha=0.9, edgecolor="none")


def _draw_training(axes: Axes, entries: Sequence[Entry], name: str, label: str, colour: str) -> None:
    updates, values = series(entries, name)
    if not updates:
        return
    axes.plot(updates, values, color=colour, alpha=0.3, linewidth=1)
    axes.plot(updates, smoothed(values), color=colour, linewidth=2, label=label)


def _draw_heldout(axes: Axes, entries: Sequence[Entry], mode: str) -> None:
    updates, rates = series(entries, names.eval_success(mode))
    if not updates:
        return
    colour, marker, side = _MODES[mode]
    places = [update + side * 0.004 * (max(updates) - min(updates)) for update in updates]
    errors = _errors(entries, mode, rates)
    style: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "markersize": 7,
        "capsize": 3,
        "linewidth": 1,
        "linestyle": ":",
    }
    axes.errorbar(places, rates, yerr=errors, label=f"success, held-out {mode} (95 %)", zorder=5, **style)
    for index in sorted({0, len(rates) - 1}):
        is_left = index == 0
        axes.annotate(
            f"{100 * rates[index]:.3g} %",
            (places[index], rates[index]),
            (-9 if is_left else 9, 7 * side),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="center",
            color=colour,
            fontsize=9,
            fontweight="bold",
        )


def _errors(entries: Sequence[Entry], mode: str, rates: Sequence[float]) -> list[list[float]] | None:
    _, counts = series([entry for entry in entries if names.eval_success(mode) in entry], names.eval_episodes(mode))
    if len(counts) != len(rates):
        return None
    bounds = [wilson_interval(round(rate * count), int(count)) for rate, count in zip(rates, counts, strict=True)]
    below = [max(0.0, rate - low) for rate, (low, _) in zip(rates, bounds, strict=True)]
    return [below, [max(0.0, high - rate) for rate, (_, high) in zip(rates, bounds, strict=True)]]


def _draw_small(axes: Axes, entries: Sequence[Entry], name: str, label: str, colour: str) -> None:
    updates, values = series(entries, name)
    axes.set_title(label, loc="left", fontsize=9)
    if updates:
        axes.fill_between(updates, values, color=colour, alpha=0.15, linewidth=0)
        axes.plot(updates, values, color=colour, linewidth=1.5)
        axes.set_ylim(0, max(1.0, max(values) * 1.15))
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.6")
    _dress(axes)


def _dress(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("update", fontsize=9)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def series(entries: Sequence[Entry], name: str) -> tuple[list[int], list[float]]:
    """Return updates and values of the entries that have the metric."""
    found = [(int(entry["update"]), float(entry[name])) for entry in entries if entry.get(name) is not None]
    return [update for update, _ in found], [value for _, value in found]


def smoothed(values: Sequence[float]) -> list[float]:
    """Return an exponential moving average without the start's bias."""
    result, total, weight = [], 0.0, 0.0
    for value in values:
        total = _SMOOTHING * total + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        result.append(total / weight)
    return result


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f"{TMP_PREFIX}{os.getpid()}-{path.name}")
    figure.savefig(temporary, format="png", facecolor="white")
    temporary.replace(path)
