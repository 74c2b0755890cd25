"""Tokens a second of the bare engine, of the bare learner, and of the whole loop, on the quickstart's work.

    python benchmarks/loop.py [--repeats 5] [--updates 8] [--json FILE] [--quick]

A repetition is one real training from the same warm-started model, and after it, with Ray gone, the parts by
themselves on the first batch that this training recorded: same weights, same contexts, same seeds. So ratios compare
what was measured minutes apart, and stand in the table as medians of each repetition's own ratio.
docs/performance.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import machine
from bare import Measured, count_tokens
from turnwise.cluster import actor_env
from turnwise.config import load_config
from turnwise.models import resolve_model
from turnwise.monitor.metrics import read_metrics
from turnwise.monitor.timing import STAGES
from turnwise.run_folder import RunFolder
from turnwise.store.store import Store
from turnwise.train import train, warm_start

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart.yaml"

WARM_UP = 2
"""First updates of a training that are not counted."""

PARTS_S = 900
"""Seconds that the parts by themselves may take, once a repetition."""

QUICK = {
    "env.kwargs": {"hops": 1, "num_entities": 10},
    "agent": {"name": "chat", "format": "compact", "max_context": 192, "max_action_tokens": 12},
    "engine": {"name": "hf", "slots": 16, "max_context": 192},
    "rollout.slots": 16,
    "rollout.group_size": 4,
    "rollout.groups_per_update": 4,
    "ray.dashboard": False,
}
"""What `--quick` changes: a smaller task, no warm start, no dashboard. Its figures mean nothing."""

TITLES = {
    "engine": "bare engine",
    "rollout": "rollout stage",
    "learner": "bare learner",
    "update": "update stage",
    "torch": "bare torch loop",
    "loop": "whole loop",
}
"""What is measured, by name."""

Repetition = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The command line."""

    repeats: int
    updates: int  # counted ones of each training
    is_quick: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What one training left behind."""

    loop: Measured  # of the counted updates: wall time from the end of the last uncounted one
    rollout: Measured  # the same tokens over the time of the rollout stage alone
    update: Measured  # and over that of the update stage
    stages: dict[str, dict[str, float]]  # by stage: seconds an update, shares of the wall time at work and waiting


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write, and return the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, help="repetitions (default 5; 1 with --quick)")
    parser.add_argument("--updates", type=int, help="counted updates a training (default 8; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a small task, only to see that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    given = parser.parse_args(argv)
    usual = (1, 1) if given.quick else (5, 8)
    options = Options(repeats=given.repeats or usual[0], updates=given.updates or usual[1], is_quick=given.quick)
    report = measure(options)
    show(report, Console())
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def measure(options: Options) -> dict[str, Any]:
    """Do all repetitions and return the report as plain JSON."""
    before = machine.load()
    with tempfile.TemporaryDirectory(prefix="turnwise-bench-") as folder:
        model = starting_model(options, Path(folder))
        repetitions = [repetition(options, Path(folder), model, number) for number in range(options.repeats)]
    return {
        "benchmark": "loop",
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine.described(),
        "load_before": before,
        "load_after": machine.load(),
        "settings": {"repeats": options.repeats, "updates": options.updates, "quick": options.is_quick},
        "repetitions": repetitions,
        "summary": condensed(repetitions),
    }


def starting_model(options: Options, folder: Path) -> Path:
    """Return the model that every training begins with: the quickstart's after its warm start."""
    if options.is_quick:
        return resolve_model("tiny")
    words = words_of(options, folder, warms_up=True, name="warm")
    return warm_start(load_config(QUICKSTART, words))


def words_of(options: Options, folder: Path, *, warms_up: bool = False, **changes: Any) -> list[str]:
    """Return what is changed in the quickstart, with or without its warm start; `__` in a keyword stands for a dot."""
    port = {} if options.is_quick else {"ray.dashboard_port": _free_port()}
    settings = {"runs_dir": str(folder), "log.progress": False, **port, **(QUICK if options.is_quick else {})}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    words = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return words if warms_up else ["~sft", *words]


def repetition(options: Options, folder: Path, model: Path, number: int) -> Repetition:
    """Train once, then measure the parts on what that training recorded."""
    load_before, num_updates = machine.load(), WARM_UP + options.updates
    words = words_of(
        options,
        folder,
        name=f"loop-{number}",
        seed=number,
        model__path=str(model),
        learner__updates=num_updates,
        learner__warmup_updates=num_updates,
        eval__tasks=0,
        checkpoint__every=0,
    )
    train(load_config(QUICKSTART, words))
    run = folder / f"loop-{number}"
    trained = read_training(run)
    parts = {
        "loop": trained.loop,
        "rollout": trained.rollout,
        "update": trained.update,
        **measured_parts(run, model, words),
    }
    return {
        "seed": number,
        "load_before": load_before,
        "load_after": machine.load(),
        "parts": {name: figures(parts[name]) for name in TITLES},
        "stages": trained.stages,
        "ratios": ratios({name: part.sampled_per_s for name, part in parts.items()}),
        "exact_share": parts["engine"].exact_share,
    }


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """Return how the parts compare, from their sampled tokens a second."""
    return {
        "rollout_to_engine": rates["rollout"] / rates["engine"],
        "update_to_learner": rates["update"] / rates["learner"],
        "learner_to_torch": rates["learner"] / rates["torch"],
        # the share of the loop's time that engine and learner would need for its tokens by themselves
        "bare_work_to_loop": rates["loop"] * (1 / rates["engine"] + 1 / rates["learner"]),
    }


def read_training(run: Path) -> Trained:
    """Return the figures of the counted updates."""
    lines = {line["update"]: line for line in read_metrics(RunFolder(run).metrics) if "timing_s/total" in line}
    counted = sorted(lines)[WARM_UP:]
    store = Store(run)
    groups = [store.groups(update) for update in counted]
    sampled, everything = count_tokens([each for batch in groups for group in batch for each in group.trajectories])
    ends = [datetime.fromisoformat(lines[update]["time"]) for update in (counted[0] - 1, counted[-1])]
    wall_s = (ends[1] - ends[0]).total_seconds()
    stage_s = {stage: sum(lines[update][f"timing_s/{stage}"] for update in counted) for stage in STAGES}
    return Trained(
        loop=Measured(seconds=wall_s, sampled_tokens=sampled, all_tokens=everything),
        rollout=Measured(seconds=stage_s["rollout"], sampled_tokens=sampled, all_tokens=everything),
        update=Measured(seconds=stage_s["update"], sampled_tokens=sampled, all_tokens=everything),
        stages={stage: _stage(stage, [lines[update] for update in counted]) for stage in STAGES},
    )


def _stage(stage: str, lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    waits = statistics.median(line[f"waiting/{stage}"] for line in lines)
    seconds = statistics.median(line[f"timing_s/{stage}"] for line in lines)
    return {"seconds": seconds, "works": 1.0 - waits, "waits": waits}


def measured_parts(run: Path, model: Path, words: Sequence[str]) -> dict[str, Measured]:
    """Measure engine, learner and plain torch in a process of their own, with an actor's environment variables."""
    config = load_config(QUICKSTART, words).config
    threads = max(int(config.engine.get("threads", 1)), config.learner.threads)
    work = {"run": str(run), "model": str(model), "config": str(QUICKSTART), "words": list(words)}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bare.py"))],
        input=json.dumps(work),
        env=os.environ | actor_env(threads),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PARTS_S,
        check=True,
    )
    return {name: Measured(**part) for name, part in json.loads(done.stdout.splitlines()[-1]).items()}


def figures(part: Measured) -> dict[str, float]:
    """Return a part's measurement as plain JSON."""
    return {
        "seconds": part.seconds,
        "sampled_tokens": part.sampled_tokens,
        "all_tokens": part.all_tokens,
        "sampled_per_s": part.sampled_per_s,
        "all_per_s": part.all_per_s,
    }


def condensed(repetitions: Sequence[Repetition]) -> dict[str, Any]:
    """Return median, minimum and maximum over the repetitions."""
    first = repetitions[0]
    return {
        "parts": {
            name: {
                key: machine.spread(each["parts"][name][key] for each in repetitions) for key in first["parts"][name]
            }
            for name in TITLES
        },
        "stages": {
            stage: {key: machine.spread(each["stages"][stage][key] for each in repetitions) for key in held}
            for stage, held in first["stages"].items()
        },
        "ratios": {key: machine.spread(each["ratios"][key] for each in repetitions) for key in first["ratios"]},
        "exact_share": machine.spread(each["exact_share"] for each in repetitions),
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    summary, settings = report["summary"], report["settings"]
    table = Table("tokens a second", "sampled", "range", "all", "range", box=SIMPLE)
    for name, title in TITLES.items():
        part = summary["parts"][name]
        table.add_row(title, *_rate(part["sampled_per_s"]), *_rate(part["all_per_s"]))
    console.print(table)
    table = Table("stage", "s an update", "works", "waits", box=SIMPLE)
    for stage, held in summary["stages"].items():
        works, waits = (f"{100 * held[key]['median']:.1f} %" for key in ("works", "waits"))
        table.add_row(stage, f"{held['seconds']['median']:.3f}", works, waits)
    console.print(table)
    table = Table("ratio", "median", "range", box=SIMPLE)
    for name, held in summary["ratios"].items():
        table.add_row(name.replace("_", " "), f"{held['median']:.2f}", f"{held['min']:.2f} to {held['max']:.2f}")
    console.print(table)
    exact = f"{100 * summary['exact_share']['min']:.1f} % of actions replayed token for token"
    console.print(f"medians of {settings['repeats']} repetitions of {settings['updates']} updates; {exact}")
    about = machine.sentence(report["machine"], report["load_before"], report["load_after"])
    console.print(about, markup=False, highlight=False)


def _rate(held: dict[str, float]) -> tuple[str, str]:
    return f"{held['median']:,.0f}", f"{held['min']:,.0f} to {held['max']:,.0f}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
