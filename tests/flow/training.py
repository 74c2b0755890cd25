"""Small trainings for the flow tests: seconds each, on the shipped model and real actors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from turnwise.config import load_config
from turnwise.store.store import Store
from turnwise.train import train

SMALL = {
    "model.path": "tiny",
    "env.id": "turnwise/Search-v0",
    "env.kwargs": {"hops": 1, "num_entities": 10},
    "agent": {"name": "chat", "format": "compact", "max_context": 192, "max_action_tokens": 12},
    "engine": {"name": "hf", "slots": 16, "max_context": 192},
    "rollout.slots": 16,
    "rollout.group_size": 4,
    "rollout.groups_per_update": 4,
    "sft.steps": 8,
    "sft.batch_size": 16,
    "sft.demonstrations": 64,
    "learner.updates": 2,
    "learner.threads": 1,
    "eval.tasks": 8,
    "eval.modes": ["greedy"],
    "checkpoint.every": 0,
    "log.progress": False,
    "log.tensorboard": False,
    "timeouts.stall_s": 60,
}


def words(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def small_run(address: str, folder: Path, name: str = "run", **changes: Any) -> dict[str, Any]:
    """Train and return the summary; `__` in a keyword stands for a dot."""
    settings = {**SMALL, "name": name, "runs_dir": str(folder), "ray.address": address}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    for switch in ("sft.steps", "eval.tasks"):  # what a key has no effect without
        section = switch.split(".")[0] + "."
        if not settings[switch]:
            settings = {key: value for key, value in settings.items() if key == switch or not key.startswith(section)}
    return train(load_config(None, words(settings)))


def entries(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [entry["learner/loss"] for entry in entries(run) if "learner/loss" in entry]


def series(run: Path, name: str) -> list[float]:
    return [entry[name] for entry in entries(run) if name in entry]


def scores(run: Path, channel: str) -> list[dict[str, Any]]:
    query = "select t.update as update, s.value as value, s.source_version as version, s.failure_cause as cause"
    joined = f"{query} from trajectories t join scores s using (trajectory_id) where s.channel = '{channel}'"
    return Store(run).query(f"{joined} order by t.update").to_pylist()
