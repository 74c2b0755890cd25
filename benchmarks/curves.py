"""Learning curves over several seeds: runs the command line, collects what it wrote, draws it, prints the table.

    python benchmarks/curves.py [--seeds 0 1 2] [--only quickstart|frozenlake|swe_small|all] [--runs-dir runs]
                                [--resume-from docs/results/quickstart.json ...]

Every seed is one `turnwise train` in a process of its own, one after another. Run folders get unique names, none is
overwritten; the results are written after every seed, and `--resume-from` keeps the seeds that a file holds already.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

import machine
from drawing import draw
from optimal import optimal_success
from turnwise.monitor.curve import series
from turnwise.monitor.metrics import read_metrics
from turnwise.monitor.names import SUCCESS, eval_success
from turnwise.run_folder import RunFolder
from turnwise.store.atomic import write_bytes_atomically

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
MODES = ("sampled", "greedy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """One example that is trained with several seeds."""

    name: str
    title: str
    optimum: Callable[[], float] | None = None  # success of the best possible policy, where it can be computed
    words: tuple[str, ...] = ()  # further `key=value` words
    needs: str = ""  # what makes its tasks; an experiment with needs is run by its name only

    @property
    def example(self) -> Path:
        """The configuration."""
        return ROOT / "examples" / f"{self.name}.yaml"


EXPERIMENTS = {
    "quickstart": Experiment(name="quickstart", title="turnwise/Search-v0, questions of two hops"),
    "frozenlake": Experiment(
        name="frozenlake", title="FrozenLake-v1, 4x4, slippery", optimum=lambda: optimal_success("FrozenLake-v1")
    ),
    "swe_small": Experiment(name="swe_small", title="turnwise/SWE-v0, packages held out", needs="make swe-tasks"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, write results and pictures, print the tables."""
    given = _parser().parse_args(argv)
    known = {held["experiment"]: held for held in map(read_results, given.resume_from)}
    unneedy = [name for name, experiment in EXPERIMENTS.items() if not experiment.needs]
    for name in unneedy if given.only == "all" else [given.only]:
        experiment = EXPERIMENTS[name]
        results = known.get(name) or empty_results(experiment)
        for seed in missing_seeds(results, given.seeds):
            results["seeds"].append(run_seed(experiment, seed, given.runs_dir))
            write_results(results, given.results)
        write_results(results, given.results)
        Console().print(table(results), markup=False, highlight=False, soft_wrap=True)


def missing_seeds(results: dict[str, Any], wanted: Sequence[int]) -> list[int]:
    """Return the wanted seeds that have no finished run yet."""
    done = {held["seed"] for held in results["seeds"]}
    return [seed for seed in wanted if seed not in done]


def empty_results(experiment: Experiment) -> dict[str, Any]:
    """Return results without a seed."""
    optimum = experiment.optimum() if experiment.optimum else None
    return {"experiment": experiment.name, "title": experiment.title, "optimum": optimum, "seeds": []}


def read_results(path: Path) -> dict[str, Any]:
    """Return what `write_results` wrote."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def write_results(results: dict[str, Any], folder: Path) -> None:
    """Write the JSON and, with at least one seed, the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    results["seeds"].sort(key=lambda held: held["seed"])
    text = json.dumps(results, indent=1) + "\n"
    write_bytes_atomically(folder / f"{results['experiment']}.json", text.encode())
    if results["seeds"]:
        draw(results, folder / f"{results['experiment']}.png")


def run_seed(experiment: Experiment, seed: int, runs_dir: Path) -> dict[str, Any]:
    """Train with one seed and return what is kept of it; SystemExit if the training does not finish."""
    name = free_name(runs_dir, f"{experiment.name}-seed{seed}")
    words = [f"seed={seed}", f"name={name}", f"runs_dir={json.dumps(str(runs_dir))}"]
    command = [sys.executable, "-m", "turnwise", "train", str(experiment.example), *experiment.words, *words]
    before, started = machine.load(), time.monotonic()
    code = subprocess.run(command, check=False).returncode
    seconds = time.monotonic() - started
    if code != 0:
        sys.exit(f"error: seed {seed} of {experiment.name} ended with exit code {code}; see {runs_dir / name}")
    loads = {"load_before": before, "load_after": machine.load()}
    return {**collected(RunFolder(runs_dir / name)), "minutes": seconds / 60, **loads}


def free_name(runs_dir: Path, stem: str) -> str:
    """Return a name under which no run lies."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    names = [f"{stem}-{stamp}", *(f"{stem}-{stamp}-{number}" for number in range(2, 1000))]
    return next(name for name in names if not (runs_dir / name).exists())


def collected(run: RunFolder) -> dict[str, Any]:
    """Return summary and curves of a run."""
    summary, lines = json.loads(run.summary.read_text(encoding="utf-8")), read_metrics(run.metrics)
    kept = ("seed", "run", "updates", "episodes", "wall_s", "heldout", "failures", "versions")
    return {
        **{key: summary[key] for key in kept},
        "machine": {"cpu": machine.cpu_model(), **summary["machine"]},
        "training": _points(lines, SUCCESS),
        "measured": {mode: _points(lines, eval_success(mode)) for mode in MODES},
    }


def table(results: dict[str, Any]) -> str:
    """Return a Markdown table: one line a seed, and one of means."""
    optimum, seeds = results["optimum"], results["seeds"]
    head = ["seed", *(f"{mode}, {when}" for mode in MODES for when in ("before", "after")), "minutes"]
    columns = [[rate(held, when, mode) for held in seeds] for mode in MODES for when in ("before", "after")]
    minutes = [held["minutes"] for held in seeds]
    lines = [
        [str(held["seed"]), *(_cell(column[place]) for column in columns), f"{minutes[place]:.1f}"]
        for place, held in enumerate(seeds)
    ]
    if seeds:
        lines.append(["mean", *(_cell(_mean(column)) for column in columns), f"{statistics.mean(minutes):.1f}"])
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return text + (f"\n\nThe optimal policy, by value iteration: {optimum:.3f}." if optimum is not None else "")


def rate(held: dict[str, Any], when: str, mode: str) -> float | None:
    """Return a success rate on held-out tasks; None if it was not measured."""
    found: float | None = held["heldout"][when].get(mode, {}).get("success_rate")
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _points(lines: Sequence[dict[str, Any]], name: str) -> list[list[float]]:
    """Return [update, value] of every line that has the metric."""
    return [[update, round(value, 6)] for update, value in zip(*series(lines, name), strict=True)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=[*EXPERIMENTS, "all"], default="all")
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the run folders go")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where JSON and pictures go")
    parser.add_argument("--resume-from", type=Path, nargs="+", default=[], metavar="JSON", help="keep these seeds")
    return parser


if __name__ == "__main__":
    main()
