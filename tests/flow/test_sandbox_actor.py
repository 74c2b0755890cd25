"""Trainings whose episodes run commands in sandboxes: opened by the worker, or leased from a pool, which dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from conftest import PLUGIN
from test_faults import Killer
from training import SMALL, series, small_run, words

from turnwise.sandbox import Tier
from turnwise.sandbox.tiers import missing
from turnwise.store.store import Store

pytestmark = pytest.mark.skipif(bool(missing(Tier.BUBBLEWRAP)), reason=f"bubblewrap: {missing(Tier.BUBBLEWRAP)}")

SHELL = {
    "env__id": "flow/Shell-v0",
    "env__kwargs": {},
    "agent": {"name": "chat", "format": "text", "max_context": 128, "max_action_tokens": 4},
    "engine": {"name": "hf", "slots": 16, "max_context": 128, "gather_s": 0.1},
    "sft__steps": 0,
    "eval__tasks": 0,
}
POOL = {"sandbox__pool": 1, "sandbox__warm": 4, "sandbox__max_open": 20, "sandbox__lease_s": 5.0}


def outcomes(run: Path) -> list[float]:
    found = Store(run).query("select distinct value from scores where channel = 'outcome'")
    return list(found.column("value").to_pylist())


def tiers(run: Path) -> set[str]:
    """Return the tiers of all complete episodes."""
    rows = Store(run).query("select provenance from trajectories where ended <> 'failed'").column(0).to_pylist()
    return {(json.loads(row) if isinstance(row, str) else dict(row))["sandbox_tier"] for row in rows}


@pytest.mark.parametrize("pools", [{}, POOL], ids=["worker", "pool"])
def test_every_episode_says_in_which_sandbox_it_ran(
    cluster_address: str, tmp_path: Path, pools: dict[str, Any]
) -> None:
    summary = small_run(cluster_address, tmp_path, **SHELL, **pools, learner__updates=3)
    assert (summary["status"], summary["updates"], summary["failures"]) == ("finished", 3, {})
    assert tiers(tmp_path / "run") == {"bubblewrap"}
    assert outcomes(tmp_path / "run") == [1.0]
    leases = series(tmp_path / "run", "sandbox/leases")
    if pools:
        assert leases[-1] > 0
        assert series(tmp_path / "run", "sandbox/leaks")[-1] == 0
        assert all(value <= 20 for value in series(tmp_path / "run", "sandbox/open"))
    else:
        assert leases == []


def test_a_pool_that_is_killed_costs_no_reward_and_the_run_goes_on(cluster_address: str, tmp_path: Path) -> None:
    traces, shell = Traces(tmp_path / "shown"), slow_shell(tmp_path / "shown")
    victim: list[int] = []

    def kill() -> None:
        wait_until(lambda: traces.look() and traces.num_running(b"sleep") >= 4, 240)
        victim.append(ray.get(ray.get_actor("sandbox:0").ping.remote(), timeout=30))
        os.kill(victim[0], signal.SIGKILL)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    summary = small_run(cluster_address, tmp_path, **shell, **POOL, learner__updates=2, rollout__max_attempts=4)
    killing.join(1)
    assert victim
    assert (summary["status"], summary["updates"]) == ("finished", 2)
    assert set(summary["failures"]) <= {"infra:reset", "infra:step"}
    assert summary["failures"]["infra:step"] >= 4, "those whose commands ran"
    causes = Store(tmp_path / "run").query("select failure_cause from trajectories where ended = 'failed'")
    assert all("SandboxLost" in cause or "PoolGone" in cause for cause in causes.column(0).to_pylist())
    assert outcomes(tmp_path / "run") == [1.0]
    assert tiers(tmp_path / "run") == {"bubblewrap"}


def test_a_pool_that_hangs_is_replaced_and_the_run_goes_on(cluster_address: str, tmp_path: Path) -> None:
    killer = Killer(tmp_path / "run", "sandbox:0", signal.SIGSTOP)
    killer.start()
    summary = small_run(cluster_address, tmp_path, **SHELL, **POOL, learner__updates=5, rollout__max_attempts=4)
    assert killer.victim is not None
    assert (summary["status"], summary["updates"]) == ("finished", 5)
    assert outcomes(tmp_path / "run") == [1.0]


class Traces:
    """The processes of sandboxes that show one folder, by which they are known, and all below them."""

    def __init__(self, shown: Path) -> None:
        self._mark = str(shown).encode()
        self._known: set[tuple[int, str]] = set()  # process and when it started

    def look(self) -> int:
        """Take note of those that are there now; return how many."""
        parents = {process: stat[1] for process in processes() if (stat := state(process)) is not None}
        ours = {process for process in parents if self._mark in command(process) and b"bwrap" in command(process)}
        while below := {child for child, parent in parents.items() if parent in ours} - ours:
            ours |= below
        found = {(process, stat[0]) for process in ours if (stat := state(process)) is not None}
        self._known |= found
        return len(found)

    def num_running(self, program: bytes) -> int:
        """Return how many of those seen run a program."""
        return sum(command(process).startswith(program) for process, _ in self._known)

    def left(self) -> list[bytes]:
        """Return the command lines of those that are still there, of all that were seen."""
        self.look()
        there = [process for process, began in self._known if (stat := state(process)) is not None and stat[0] == began]
        return [command(process)[:80] for process in there]


def processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def state(process: int) -> tuple[str, int] | None:
    """Return when a process started and its parent; None for one that is gone, or has ended and not been reaped."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (fields[19], int(fields[1]))


def command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(holds: Callable[[], object], limit_s: float) -> float:
    """Return the seconds that it took; at most the limit."""
    began = time.monotonic()
    while not holds() and time.monotonic() - began < limit_s:
        time.sleep(0.1)
    return time.monotonic() - began


def slow_shell(shown: Path) -> dict[str, Any]:
    shown.mkdir()
    return {**SHELL, "env__kwargs": {"seconds": 1.0, "num_turns": 4, "shown": [str(shown)]}}


@pytest.mark.parametrize(("actor", "pools"), [("rollout:0", {}), ("rollout:0", POOL), ("sandbox:0", POOL)])
def test_sandboxes_of_a_killed_process_are_gone_within_seconds(
    cluster_address: str, tmp_path: Path, actor: str, pools: dict[str, Any]
) -> None:
    traces, left, seen = Traces(tmp_path / "shown"), [b"nothing was killed"], [0]

    def kill() -> None:
        wait_until(lambda: traces.look() >= 8, 120)
        process = ray.get(ray.get_actor(actor).ping.remote(), timeout=30)
        seen.append(traces.look())
        os.kill(process, signal.SIGKILL)
        old = set(traces._known)
        wait_until(lambda: not gone(old), 10.0)
        left[:] = [command(victim) for victim in gone(old)]

    def gone(old: set[tuple[int, str]]) -> list[int]:
        return [process for process, began in old if (stat := state(process)) is not None and stat[0] == began]

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    shell = slow_shell(tmp_path / "shown")
    summary = small_run(cluster_address, tmp_path, **shell, **pools, learner__updates=2, rollout__max_attempts=4)
    killing.join(30)
    assert seen[-1] >= 8
    assert left == [], "the killed process's sandboxes are there after 10 s"
    assert (summary["status"], outcomes(tmp_path / "run")) == ("finished", [1.0])
    wait_until(lambda: not traces.left(), 10.0)
    assert traces.left() == [], "sandboxes are there after the run"


@pytest.mark.parametrize("pools", [{}, POOL], ids=["worker", "pool"])
def test_a_killed_driver_leaves_no_sandbox(tmp_path: Path, pools: dict[str, Any]) -> None:
    traces, shell = Traces(tmp_path / "shown"), slow_shell(tmp_path / "shown")
    settings = {**SMALL, "runs_dir": str(tmp_path), "ray.dashboard": False, "ray.num_cpus": 4, "learner.updates": 50}
    settings |= {key.replace("__", "."): value for key, value in {**shell, **pools}.items()}
    settings = {key: value for key, value in settings.items() if key not in NO_EFFECT}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), PLUGIN])}
    program = "import sys; from turnwise.config import load_config; from turnwise.train import train\n"
    program += "train(load_config(None, sys.argv[1:]))"
    driver = subprocess.Popen(
        [sys.executable, "-c", program, *words(settings)],
        env={name: value for name, value in env.items() if not name.startswith("RAY_")},
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "stderr").open("w"),
    )
    try:
        wait_until(lambda: traces.look() >= 8 or driver.poll() is not None, 180)
        assert driver.poll() is None, (tmp_path / "stderr").read_text()[-2000:]
        time.sleep(1.0)
        traces.look()
    finally:
        driver.kill()
        driver.wait()
    assert wait_until(lambda: not traces.left(), 30.0) < 10.0, traces.left()
    mounts = Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in mounts


NO_EFFECT = {"sft.batch_size", "sft.demonstrations", "eval.modes"}
"""Keys of the small run that have no effect without what is switched off here."""
