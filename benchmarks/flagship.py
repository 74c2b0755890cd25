"""The flagship against GRPO on the outcome alone, at equal episodes: success, and answers that cite what shows them.

    python benchmarks/flagship.py [--seeds 0 1 2 3 4] [--only flagship grpo ...] [--runs-dir runs]
                                  [--json docs/results/flagship.json] [--resume]

Everything but rewards and credit is equal. The other contenders are ablations, by configuration alone. "Evidenced": the
answer is right and cites, of the pages opened before, those that show each hop. Results are written after every
training, and `--resume` keeps those that are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from comparison import curve, episodes_to, rows_to_table, spread, write
from curves import MODES, RESULTS, ROOT, Experiment, run_seed
from drawing import draw_means
from turnwise.monitor.curve import series
from turnwise.monitor.metrics import read_metrics
from turnwise.monitor.names import eval_evidenced, eval_success
from turnwise.run_folder import RunFolder
from turnwise.store.store import Store

CONTENDERS: dict[str, tuple[str, ...]] = {
    "flagship": (),
    "grpo": (
        "rewards=[{name: events}]",
        "credit.channels={outcome: 1.0}",
        "credit.fuse=[]",
        "credit.estimator={name: grpo}",
    ),
    "no process reward": ("rewards=[{name: events}, {name: carr}]", "credit.channels={outcome: 1.0, rubric: 0.0}"),
    "process reward by token": (
        "rewards=[{name: events}, {name: carr}, {name: implicit_prm, lr: 3.0e-4, granularity: token}]",
    ),
    "process reward merged": (
        "rewards=[{name: events}, {name: carr}, {name: implicit_prm, lr: 3.0e-4, granularity: trajectory}]",
    ),
    "outcome alone, with a prior": (
        "rewards=[{name: events}]",
        "credit.channels={outcome: 1.0}",
        "credit.fuse=[]",
    ),
    "without a prior": ("credit.estimator.prior=0.0",),
    "rubric relative to the group": (
        "credit.fuse=[{name: only_positive, alpha: 0.8}]",
        "credit.scale=group",
    ),
    "rubric without the graph": (
        "rewards=[{name: events}, {name: carr, graph: false}, {name: implicit_prm, lr: 3.0e-4}]",
    ),
    "rubric paid to turns": (
        "rewards=[{name: events}, {name: carr, per_turn: true}, {name: implicit_prm, lr: 3.0e-4}]",
        "credit.channels={outcome: 1.0, rubric_turn: 0.0, process: 0.02}",
        "credit.fuse=[{name: only_positive, rubric: rubric_turn, alpha: 0.8, relative: false, by_turn: 1.0}]",
    ),
}
"""What differs from `examples/search_citation_rubric.yaml`, by contender."""

MEASURES = {"success": "success", "evidenced": "right, with every hop shown by a cited page"}
LEVEL = 0.8
"""Success in training, smoothed, whose first update counts."""

PER_EPISODE = """
select update, avg(case when outcome > 0 then 1.0 else 0.0 end) as success,
       avg(case when outcome > 0 and coalesce(citation, 0) > 0.999 then 1.0 else 0.0 end) as evidenced
from (select update, trajectory_id, sum(value) filter (channel = 'outcome') as outcome,
             sum(value) filter (channel = 'citation') as citation
      from scores where not is_eval group by update, trajectory_id)
group by update order by update
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, write results and picture, print the table."""
    given = _parser().parse_args(argv)
    results = {"command": " ".join(["python", *sys.argv]), "runs": []}
    if given.resume and given.json.is_file():
        results = json.loads(given.json.read_text(encoding="utf-8"))
    done = {(held["contender"], held["seed"]) for held in results["runs"]}
    for seed in given.seeds:  # seed by seed, so that what is there can be compared at any time
        for contender in given.only:
            if (contender, seed) not in done:
                results["runs"].append(trained(contender, seed, given.runs_dir))
                write(results, given.json, draw)
    write(results, given.json, draw)
    for text in (table(results), differences(results)):
        Console().print(text, markup=False, highlight=False, soft_wrap=True)


def trained(contender: str, seed: int, runs_dir: Path) -> dict[str, Any]:
    """Train one contender with one seed; return what is kept of it."""
    words = (*CONTENDERS[contender], "ray.dashboard=false")
    held = run_seed(Experiment(name="search_citation_rubric", title=contender, words=words), seed, runs_dir)
    run = RunFolder(runs_dir / held["run"])
    return {"contender": contender, **held, "training": training(run.path), "measured": heldout(run)}


def heldout(run: RunFolder) -> dict[str, dict[str, list[list[float]]]]:
    """Return [update, share] of every measurement on held-out tasks, for each mode and measure."""
    lines = read_metrics(run.metrics)
    names = {"success": eval_success, "evidenced": eval_evidenced}
    return {
        mode: {what: [list(at) for at in zip(*series(lines, name(mode)), strict=True)] for what, name in names.items()}
        for mode in MODES
    }


def training(run: Path) -> dict[str, list[list[float]]]:
    """Return [update, share] of every update for each measure, of the episodes that were trained on."""
    rows = Store(run).rows(PER_EPISODE)
    return {measure: [[row["update"], round(row[measure], 6)] for row in rows] for measure in MEASURES}


def table(results: dict[str, Any]) -> str:
    """Return a Markdown table: held-out shares by update, means over seeds with their range."""
    updates = sorted({int(at) for held in results["runs"] for at, _ in held["measured"]["sampled"]["success"]})
    head = ["contender", "mode", "seeds", *(f"{what} {at}" for what in MEASURES for at in updates if at)]
    rows = [[*head, f"episodes to {LEVEL:.0%}", "minutes"]]
    for contender, runs in by_contender(results).items():
        for mode in MODES:
            shares = [[at_update(held, mode, what, at) for held in runs] for what in MEASURES for at in updates if at]
            cells = [spread(column, "{:.3f}") for column in shares]
            if mode == MODES[0]:
                cells += [spread([episodes_to(held, held["training"]["success"], LEVEL) for held in runs], "{:,.0f}")]
                cells += [spread([held["minutes"] for held in runs], "{:.1f}")]
            rows.append([contender, mode, str(len(runs)), *cells, *[""] * (len(rows[0]) - 3 - len(cells))])
    return rows_to_table(rows)


def differences(results: dict[str, Any]) -> str:
    """Return a line for each other contender: the flagship's last held-out shares less its own, paired by seed."""
    first, *others = by_contender(results).items()
    lines = []
    for contender, runs in others:
        pairs = [(one, two) for one in first[1] for two in runs if one["seed"] == two["seed"]]
        found = [
            f"{what} {mode} {_mean_and_error([_last(one, mode, what) - _last(two, mode, what) for one, two in pairs])}"
            for what in MEASURES
            for mode in MODES
        ]
        lines.append(f"{first[0]} less {contender}, {len(pairs)} pairs (mean, standard error): {'; '.join(found)}")
    return "\n".join(lines)


def _last(held: dict[str, Any], mode: str, measure: str) -> float:
    return float(held["measured"][mode][measure][-1][1])


def _mean_and_error(values: Sequence[float]) -> str:
    error = f"{statistics.stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else "unknown"
    return f"{statistics.fmean(values):+.3f}, {error}" if values else "unknown"


def by_contender(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the trainings of each contender, in the order of `CONTENDERS`."""
    found = {name: [held for held in results["runs"] if held["contender"] == name] for name in CONTENDERS}
    return {name: runs for name, runs in found.items() if runs}


def at_update(held: dict[str, Any], mode: str, measure: str, update: int) -> float | None:
    """Return a share of the held-out episodes after an update; None if it was not measured."""
    return next((share for at, share in held["measured"][mode][measure] if at == update), None)


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the PNG: success and evidenced success in training against episodes, of those with the most seeds."""
    found = by_contender(results)
    most = max(len(runs) for runs in found.values())
    shown = {name: runs for name, runs in found.items() if len(runs) == most}
    figure = Figure(figsize=(11.2, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (measure, title) in enumerate(MEASURES.items(), start=1):
        axes = figure.add_subplot(1, len(MEASURES), place)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=8)
        draw_means(
            axes, {name: [curve(held, held["training"][measure]) for held in each] for name, each in shown.items()}
        )
        if place == len(MEASURES):
            axes.legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor="none")
    figure.savefig(path, format="png", facecolor="white")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the run folders go")
    parser.add_argument("--json", type=Path, default=RESULTS / "flagship.json", help="where results and picture go")
    parser.add_argument("--resume", action="store_true", help="keep the trainings that the results hold already")
    return parser


if __name__ == "__main__":
    main()
