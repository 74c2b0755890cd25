"""What breaks during a run, and what must not come of it: environments, workers and engines that fail."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import ray
from training import entries, small_run

from turnwise.errors import InfraError, TurnwiseError
from turnwise.fleet import RemoteLearner
from turnwise.store.store import Store

FLAKY = {
    "env__id": "turnwise/Flaky-v0",
    "agent": {"name": "chat", "format": "text", "max_context": 128, "max_action_tokens": 4},
    "engine": {"name": "hf", "slots": 16, "max_context": 128, "gather_s": 0.1},
    "sft__steps": 0,
    "timeouts__step_s": 0.5,
}


def test_raising_and_hanging_steps_cost_no_wrong_reward_and_are_counted(
    cluster_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kwargs = {"raise_p": 0.10, "hang_p": 0.02, "num_turns": 3, "hang_s": 30.0}
    summary = small_run(
        cluster_address,
        tmp_path,
        **FLAKY,
        env__kwargs=kwargs,
        learner__updates=6,
        rollout__max_attempts=4,
        eval__tasks=0,
        log__progress=True,
    )
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("first failure env:step: ")]
    assert len(told) == 1
    assert "time-out" in told[0] or "Error" in told[0]
    speeds = {int(entry["update"]): entry.get("speed/tokens_per_s") for entry in entries(tmp_path / "run")}
    shown = [(int(line.split()[1].partition("/")[0]), line) for line in lines if line.startswith("update ")]
    assert shown
    assert all(f" tokens/s {speeds[update]:.0f} " in line for update, line in shown)
    assert summary["status"] == "finished"
    assert summary["updates"] == 6
    failures = summary["failures"]
    assert failures["env:step"] >= 10
    store = Store(tmp_path / "run")
    scores = store.query("select distinct value from scores where channel = 'outcome'").column("value").to_pylist()
    assert scores == [
        1.0
    ]  # what an episode that nothing befell is worth; another value is a failure taken for a reward
    causes = store.query("select failure_cause from trajectories where ended = 'failed'").column(0).to_pylist()
    logged = sum(
        value for entry in entries(tmp_path / "run") for key, value in entry.items() if key == "failures/env:step"
    )
    assert logged == failures["env:step"]
    assert all("time-out" in cause or "raised" in cause or "Error" in cause for cause in causes)


class Killer(threading.Thread):
    """Kills the process of a named actor once the run is under way, and remembers whom it killed."""

    def __init__(self, run: Path, actor: str, number: int, after_updates: int = 1) -> None:
        super().__init__(daemon=True)
        self._metrics, self._actor, self._number, self._after = run / "metrics.jsonl", actor, number, after_updates
        self.victim: int | None = None

    def run(self) -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self.victim is None:
            time.sleep(0.05)
            if self._metrics.exists() and self._updates() >= self._after:
                actor = ray.get_actor(self._actor)
                self.victim = ray.get(actor.ping.remote(), timeout=30)
                os.kill(self.victim, self._number)

    def _updates(self) -> int:
        return self._metrics.read_text().count('"learner/loss"')


def test_killed_actors_are_replaced_and_the_run_goes_on(cluster_address: str, tmp_path: Path) -> None:
    actors = ("rollout:0", "engine:0", "reward:events:0", "store")
    killers = [Killer(tmp_path / "run", actor, signal.SIGKILL, 1 + 6 * i) for i, actor in enumerate(actors)]
    for killer in killers:
        killer.start()
    summary = small_run(cluster_address, tmp_path, learner__updates=30, eval__tasks=4, sft__steps=4)
    for killer in killers:
        killer.join(1)
    assert all(killer.victim is not None for killer in killers), "each was killed while the run was under way"
    assert summary["status"] == "finished"
    assert summary["updates"] == 30
    ids = Store(tmp_path / "run").query("select trajectory_id from trajectories where update > 0 and not is_eval")
    names = ids.column(0).to_pylist()
    assert len(names) == len(set(names))


def test_a_hung_worker_is_noticed_and_replaced(cluster_address: str, tmp_path: Path) -> None:
    killer = Killer(tmp_path / "run", "rollout:0", signal.SIGSTOP)
    killer.start()
    summary = small_run(cluster_address, tmp_path, learner__updates=6, eval__tasks=0, sft__steps=4)
    assert killer.victim is not None
    assert summary["status"] == "finished"
    assert summary["failures"].get("infra:worker", 0) > 0


def test_a_lost_learner_ends_the_run_with_an_error_that_says_how_to_go_on(cluster_address: str, tmp_path: Path) -> None:
    killer = Killer(tmp_path / "run", "learner:0", signal.SIGKILL, after_updates=3)
    killer.start()
    with pytest.raises(InfraError, match="resume=true"):
        small_run(cluster_address, tmp_path, learner__updates=40, eval__tasks=0, sft__steps=4, checkpoint__every=1)
    summary = small_run(cluster_address, tmp_path, learner__updates=6, eval__tasks=0, sft__steps=4, resume=True)
    assert summary["updates"] == 6


def test_an_engine_that_cannot_prove_its_weights_ends_the_run(
    cluster_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RemoteLearner.call

    async def lying(self: RemoteLearner, method: str, *arguments: object) -> object:
        result = await real(self, method, *arguments)
        return (result[0], "0" * 32, result[2]) if method == "export" and result[0] == 2 else result

    monkeypatch.setattr(RemoteLearner, "call", lying)
    with pytest.raises(TurnwiseError, match=r"[Cc]hecksum|weights"):
        small_run(cluster_address, tmp_path, learner__updates=4, eval__tasks=0, sft__steps=4)
    assert len([entry for entry in entries(tmp_path / "run") if "learner/loss" in entry]) == 1
