"""Credit with a language model: GRPO on the summed rewards against the default, success over episodes, several seeds.

    python benchmarks/credit_lm.py [--seeds 0 1 2 3 4] [--only quickstart|hard|all] [--estimators grpo turnwise]
                                   [--runs-dir runs] [--results docs/results] [--resume]

Two settings of `turnwise/Search-v0`: the quickstart, and questions of four hops among many distractors, where a start
below 0.1 and an outcome that comes once an episode leave much to credit. Everything but the credit is equal. Results
are written after every training, and `--resume` keeps those that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from comparison import curve, episodes_to, rows_to_table, spread, write
from curves import RESULTS, ROOT, Experiment, rate, run_seed
from drawing import draw_means

CONTENDERS = {
    "grpo": ("credit.estimator={name: grpo}", "credit.scale=none"),
    "turnwise": ("credit.estimator={name: turnwise}", "credit.scale=group"),
}
"""What differs, by estimator: `turnwise` with the defaults."""

LEVELS = (0.5, 0.8)
"""Success in training, smoothed, whose first update counts."""

SETTINGS = {
    "quickstart": ("questions of two hops", ()),
    "hard": (
        "questions of four hops, forty entities",
        (
            "env.kwargs={hops: 4, num_entities: 40}",
            "sft.env_kwargs.mistakes.early_answer=0.5",
            "sft.steps=200",
            "sft.demonstrations=6400",
            "agent.max_context=640",
            "engine.max_context=640",
            "learner.updates=60",
            "eval.tasks=200",
        ),
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, write results and pictures, print the tables."""
    given = _parser().parse_args(argv)
    for setting in SETTINGS if given.only == "all" else [given.only]:
        path = given.results / f"credit-lm-{setting}.json"
        results = json.loads(path.read_text(encoding="utf-8")) if given.resume and path.is_file() else _empty(setting)
        done = {(held["estimator"], held["seed"]) for held in results["runs"]}
        for seed in given.seeds:  # seed by seed, so that what is there can be compared at any time
            for estimator in given.estimators:
                if (estimator, seed) not in done:
                    held = run_seed(_experiment(setting, estimator), seed, given.runs_dir)
                    results["runs"].append({"estimator": estimator, **held})
                    write(results, path, draw)
        write(results, path, draw)
        Console().print(table(results), markup=False, highlight=False, soft_wrap=True)


def table(results: dict[str, Any]) -> str:
    """Return a Markdown table: a line an estimator, means over seeds with their range."""
    head = ["estimator", "seeds", "sampled, before", "sampled, after", "greedy, after"]
    head += [f"episodes to {level:.0%}" for level in LEVELS]
    rows = [head]
    for estimator in dict.fromkeys(held["estimator"] for held in results["runs"]):
        runs = [held for held in results["runs"] if held["estimator"] == estimator]
        rates = [[rate(held, *what) for held in runs] for what in WHAT]
        reached = [[episodes_to(held, held["training"], level) for held in runs] for level in LEVELS]
        cells = [spread(column, "{:.3f}") for column in rates] + [spread(column, "{:,.0f}") for column in reached]
        rows.append([estimator, str(len(runs)), *cells])
    return rows_to_table(rows)


WHAT = (("before", "sampled"), ("after", "sampled"), ("after", "greedy"))


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the PNG: a line a training, and the mean over seeds of each estimator, against episodes."""
    figure = Figure(figsize=(8.4, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(results["title"], loc="left", fontsize=12, fontweight="bold", pad=10)
    names = dict.fromkeys(held["estimator"] for held in results["runs"])
    draw_means(
        axes,
        {
            name: [curve(held, held["training"]) for held in results["runs"] if held["estimator"] == name]
            for name in names
        },
    )
    axes.legend(loc="lower right", fontsize=9, framealpha=0.9, edgecolor="none")
    figure.savefig(path, format="png", facecolor="white")


def _experiment(setting: str, estimator: str) -> Experiment:
    words = (*SETTINGS[setting][1], *CONTENDERS[estimator], "ray.dashboard=false")
    return Experiment(name="quickstart", title=f"credit-{setting}-{estimator}", words=words)


def _empty(setting: str) -> dict[str, Any]:
    title = f"turnwise/Search-v0, {SETTINGS[setting][0]}"
    return {"setting": setting, "title": title, "command": " ".join(["python", *sys.argv]), "runs": []}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", choices=[*SETTINGS, "all"], default="all")
    parser.add_argument("--estimators", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the run folders go")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where JSON and pictures go")
    parser.add_argument("--resume", action="store_true", help="keep the trainings that the results hold already")
    return parser


if __name__ == "__main__":
    main()
