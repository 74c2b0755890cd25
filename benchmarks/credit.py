"""How well each estimator's turn advantages meet the true ones, and how many episodes a policy needs with it.

    python benchmarks/credit.py [--estimators NAME ...] [--learn LABEL ...] [--processes NAME ...] [--seeds 20]
                                [--json FILE] [--quick]

The processes (`processes.py`) are small tables, so that the true advantage of every turn is known; the policies
(`softmax.py`) are linear, so that thousands train in minutes. Every registered estimator that a process can feed takes
part (`contenders.py`). docs/credit.md says what each figure means and what came out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import machine
from contenders import BASE, KNOWING, fed, knowing, settings
from cost import measured_cost
from processes import Array, Process, every_process, optimum, play, success, values, visits
from softmax import Contender, Training, credited, score_sums, softmax, train

RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Learning rates: the best of them counts, for every estimator and process by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The command line."""

    seeds: int
    groups: int  # for bias, variance and rank correlation
    training: Training
    rates: tuple[float, ...]
    learn: frozenset[str] | None  # labels of those that are trained; None: all
    is_quick: bool


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write, and return the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", nargs="+", metavar="NAME", help="only these, beside grpo (default: all)")
    parser.add_argument("--learn", nargs="+", metavar="LABEL", help="train with these only; the rest is only estimated")
    parser.add_argument("--processes", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--seeds", type=int, help="trainings of each learning rate (default 20; 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a few updates, only to see that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    given = parser.parse_args(argv)
    options = Options(
        seeds=given.seeds or (2 if given.quick else 20),
        groups=60 if given.quick else 3000,
        training=Training(max_updates=3) if given.quick else Training(),
        rates=RATES[2:3] if given.quick else RATES,
        learn=None if given.learn is None else frozenset(given.learn) | {BASE, *KNOWING},
        is_quick=given.quick,
    )
    report = measure(options, given.estimators, given.processes)
    show(report, Console(width=max(150, Console().width)))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def measure(options: Options, names: Sequence[str] | None, wanted: Sequence[str] | None) -> dict[str, Any]:
    """Measure all and return the report as plain JSON."""
    before, started = machine.load(), time.process_time()
    processes = [process for process in every_process() if wanted is None or process.name in wanted]
    results = [measured_process(process, settings(names), options) for process in processes]
    return {
        "benchmark": "credit",
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine.described(),
        "load_before": before,
        "settings": {
            "seeds": options.seeds,
            "groups": options.groups,
            "rates": list(options.rates),
            "quick": options.is_quick,
            "learn": None if options.learn is None else sorted(options.learn),
            **asdict(options.training),
        },
        "processes": results,
        "cost": measured_cost(settings(names), is_quick=options.is_quick),
        "cpu_s": time.process_time() - started,
        "load_after": machine.load(),
    }


def measured_process(process: Process, sections: dict[str, dict[str, Any]], options: Options) -> dict[str, Any]:
    """Return what each estimator does on one process."""
    policy, rows = halfway(process), {}
    for label, section in sections.items():
        contender, reason = fed(label, section, process, policy)
        rows[label] = {"not_fed": reason} if contender is None else measured(contender, process, policy, options)
    rows |= {contender.label: measured(contender, process, policy, options) for contender in knowing()}
    for row in rows.values():
        if "episodes" in row:
            row["ratio"] = ratio(row["episodes"], rows[BASE]["episodes"])
    return {
        "name": process.name,
        "says": process.says,
        "key_turns": process.key_turns,
        "horizon": process.horizon,
        "optimum": optimum(process),
        "success_at_start": float(success(process, np.full_like(policy, 1.0 / policy.shape[2]))[0]),
        "estimators": rows,
    }


def measured(contender: Contender, process: Process, policy: Array, options: Options) -> dict[str, Any]:
    """Return how accurate an estimator is and, if it is to be trained with, how many episodes that needs."""
    started = time.process_time()
    found = accuracy(contender, process, policy, options)
    if options.learn is None or contender.label in options.learn:
        needed = train(contender, process, options.rates, options.seeds, options.training)
        found |= episodes_needed(needed, options)
    return {**found, "cpu_s": time.process_time() - started}


def halfway(process: Process) -> Array:
    """Return [1, O, A] a policy on the way: exact gradient ascent until half of the best success."""
    logits = np.zeros((1, process.num_observations, process.chance.shape[1]))
    while success(process, softmax(logits))[0] < 0.5 * optimum(process):
        gradient = true_gradient(process, softmax(logits))
        logits += 0.2 * gradient / np.abs(gradient).max()
    return softmax(logits)


def true_gradient(process: Process, policy: Array) -> Array:
    """Return [1, O, A] the gradient of the expected return by the logits."""
    v, q = values(process, policy)
    cells = visits(process, policy)[..., None] * policy[:, None, process.observed] * (q - v[:, :-1, :, None])
    gradient = np.zeros(policy.shape)
    np.add.at(gradient[0], process.observed, cells.sum(axis=1)[0])
    return gradient


def accuracy(contender: Contender, process: Process, policy: Array, options: Options) -> dict[str, Any]:
    """Compare turn advantages with the true ones at one policy, scaled so that the expected step is equally long.

    Only the rank correlation where the expected step does not go along the true one, by three standard errors.
    """
    size, rng = options.training.group_size, np.random.default_rng(23)
    episodes = play(process, policy, rng.random((1, size * options.groups, 2 * process.horizon + 1)), size)
    normal = rng.normal(size=episodes.rewards.shape)
    scored = np.where(episodes.exists, episodes.rewards + process.noise * normal, 0.0)
    estimate, mask = credited(contender, process, policy, episodes, scored, size)
    gradient = true_gradient(process, policy)[0]
    by_group = group_gradients(process, policy, episodes, np.where(mask, estimate, 0.0), size)
    along = np.einsum("goa,oa->g", by_group, gradient)
    if along.mean() <= 3.0 * along.std() / np.sqrt(options.groups):
        return {"rank_correlation": turn_errors(process, policy, episodes, estimate, mask)["rank_correlation"]}
    mean, length = by_group.mean(axis=0), float((gradient**2).sum())
    factor = length / float(along.mean())
    spread = factor**2 * float(by_group.var(axis=0, ddof=1).sum()) / length
    off, floor = float(((factor * mean - gradient) ** 2).sum()) / length, spread / options.groups
    return {
        "factor": factor,
        "gradient_bias": float(np.sqrt(max(off - floor, 0.0))),
        "gradient_bias_floor": float(np.sqrt(floor)),
        "gradient_variance": spread * size,
        **turn_errors(process, policy, episodes, factor * estimate, mask),
    }


def group_gradients(process: Process, policy: Array, episodes: Any, weights: Array, size: int) -> Array:
    """Return [groups, O, A] the gradient that each group gives, a trajectory's on average."""
    shape = (-1, size, process.horizon)
    parts = type(episodes)(
        states=episodes.states.reshape(shape),
        actions=episodes.actions.reshape(shape),
        num_turns=episodes.num_turns.reshape(-1, size),
        rewards=episodes.rewards.reshape(shape),
        outcomes=episodes.outcomes.reshape(-1, size),
    )
    policies = np.broadcast_to(policy[0], (len(parts.states), *policy.shape[1:]))
    return score_sums(process, policies, parts, weights.reshape(shape)) / size


def turn_errors(process: Process, policy: Array, episodes: Any, estimate: Array, mask: Array) -> dict[str, float]:
    """Return bias, spread and rank correlation; bias: rms of the mean error in a cell of turn, state and action."""
    if not mask.any():
        return {"rank_correlation": 0.0}
    v, q = values(process, policy)
    k = np.broadcast_to(np.arange(process.horizon), episodes.states.shape)[mask]
    state, action = episodes.states[mask], episodes.actions[mask]
    true = q[0, k, state, action] - v[0, k, state]
    error = estimate[mask] - true
    _, cell = np.unique((k * len(process.names) + state) * q.shape[3] + action, return_inverse=True)
    count = np.bincount(cell).astype(float)
    mean = np.bincount(cell, error) / count
    within = np.maximum(np.bincount(cell, error**2) / count - mean**2, 0.0) * count / np.maximum(count - 1.0, 1.0)
    bias = (mean**2 - within / count)[count > 1.5] @ count[count > 1.5] / count.sum()
    return {
        "bias": float(np.sqrt(max(bias, 0.0))),
        "standard_deviation": float(np.sqrt(within @ count / count.sum())),
        "rank_correlation": rank_correlation(estimate[mask], true),
    }


def rank_correlation(x: Array, y: Array) -> float:
    """Return Spearman's; equal values share their mean rank. 0 where either is constant."""
    ranks = []
    for held in (x, y):
        _, place, count = np.unique(np.round(held, 9), return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - 0.5 * (count - 1))[place])
    a, b = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def episodes_needed(needed: Array, options: Options) -> dict[str, Any]:
    """Return the best learning rate's episodes; a training that did not get there counts as its limit."""
    limit = options.training.max_updates * options.training.episodes_per_update
    counted = np.where(np.isfinite(needed), needed, limit)
    best = int(counted.mean(axis=1).argmin())
    return {
        "rate": options.rates[best],
        "episodes": counted[best].tolist(),
        "reached": int(np.isfinite(needed[best]).sum()),
        "by_rate": counted.mean(axis=1).tolist(),
    }


def ratio(mine: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Return the ratio of mean episodes and its 95 % bootstrap interval (4,000 draws of seeds), and that of medians."""
    rng = np.random.default_rng(1)
    drawn = [np.asarray(held)[rng.integers(0, len(held), (4000, len(held)))] for held in (mine, base)]
    found = {}
    for prefix, middle in (("", np.mean), ("median_", np.median)):
        low, high = np.quantile(middle(drawn[0], axis=1) / middle(drawn[1], axis=1), [0.025, 0.975])
        found |= {f"{prefix}low": float(low), f"{prefix}high": float(high)}
    middles = {"mean": float(np.mean(mine) / np.mean(base)), "median": float(np.median(mine) / np.median(base))}
    return middles | found


def interval(held: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and 95 % bootstrap interval over seeds."""
    rng = np.random.default_rng(2)
    means = np.asarray(held)[rng.integers(0, len(held), (4000, len(held)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean(held)), float(low), float(high)


def show(report: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    for held in report["processes"]:
        title = f"{held['name']}: {held['says']}; best {held['optimum']:.2f}, start {held['success_at_start']:.2f}"
        table = Table(
            "estimator", "episodes", "95 %", "to grpo", "95 %", "of medians", "rate", "reached",
            "grad. bias", "grad. variance", "bias", "sd", "rank", title=title, title_justify="left", box=SIMPLE,
        )  # fmt: skip
        for label, row in held["estimators"].items():
            table.add_row(label, *([row["not_fed"]] if "not_fed" in row else _cells(row, report["settings"])))
        console.print(table)
    cost = report["cost"]
    table = Table("estimator", "ms", "share of a learner step", box=SIMPLE)
    for label, row in cost["estimators"].items():
        table.add_row(label, *((f"{1000 * row['seconds']:.0f}", f"{100 * row['share']:.4f} %") if row else ("-", "-")))
    console.print(table)
    console.print(cost["says"], markup=False, highlight=False)
    about = machine.sentence(report["machine"], report["load_before"], report["load_after"])
    used = f"{report['settings']['seeds']} seeds, {report['cpu_s']:.0f} s of CPU"
    console.print(f"{used}; {about}", markup=False, highlight=False)


def _cells(row: dict[str, Any], about: dict[str, Any]) -> list[str]:
    return [
        *(_learning(row, about) if "ratio" in row else ["-"] * 7),
        *(_accuracy(row) if "factor" in row else ["-"] * 4),
        f"{row['rank_correlation']:.2f}",
    ]


def _accuracy(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['gradient_bias']:.2f} (noise {row['gradient_bias_floor']:.2f})",
        f"{row['gradient_variance']:.1f}",
        f"{row['bias']:.3f}",
        f"{row['standard_deviation']:.3f}",
    ]


def _learning(row: dict[str, Any], about: dict[str, Any]) -> list[str]:
    mean, low, high = interval(row["episodes"])
    edge = "*" if row["rate"] in (about["rates"][0], about["rates"][-1]) else ""
    against = row["ratio"]
    return [
        f"{mean:,.0f}",
        f"{low:,.0f} to {high:,.0f}",
        f"{against['mean']:.2f}",
        f"{against['low']:.2f} to {against['high']:.2f}",
        f"{against['median']:.2f}",
        f"{row['rate']}{edge}",
        f"{row['reached']}/{len(row['episodes'])}",
    ]


if __name__ == "__main__":
    main()
