"""Guided attempts in the whole loop: real actors, the shipped model, and what a run leaves behind of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training import SMALL, entries, losses, series, small_run

from turnwise.config import load_config
from turnwise.records import Trajectory
from turnwise.store.store import Store
from turnwise.train import train

PAIRS: dict[str, Any] = {
    "env__id": "flow_guided:flow/Pair-v0",
    "env__kwargs": {},
    "agent": {"name": "chat", "format": "text", "show_instructions": False, "max_context": 64, "max_action_tokens": 6},
    "engine": {"name": "hf", "slots": 16, "max_context": 64},
    "sft__steps": 40,
    "rollout__guided": {"share": 1.0, "per_group": 4, "over": 8, "final": 0.5},
    "learner__updates": 4,
}


def guided_run(address: str, folder: Path, name: str, **changes: Any) -> Path:
    small_run(address, folder, name, **{**PAIRS, **changes})
    return folder / name


@pytest.fixture(scope="module")
def finished(cluster_address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guided_run(cluster_address, tmp_path_factory.mktemp("guided"), "whole")


def trained(run: Path, *updates: int) -> list[Trajectory]:
    """The episodes of some updates, of all if none is named."""
    store = Store(run)
    return [m for update in updates or store.updates() for group in store.groups(update) for m in group.trajectories]


def test_failed_first_attempts_are_played_again_with_guidance_and_say_so(finished: Path) -> None:
    rows = trained(finished)
    second = [row for row in rows if row.is_guided]
    first = {row.trajectory_id: row for row in rows if not row.is_guided}
    assert len(first) == 4 * 4 * 4
    assert len(second) > 8
    for row in second:
        before = first[row.provenance["first_attempt"]]
        assert before.group_id == row.group_id
        assert before.provenance["offered"] == row.provenance["guidance"]
        assert row.turns[0].observation == f"{before.turns[0].observation}\n\n{row.provenance['guidance']}"
        assert rewarded(before) == 0.0
    assert sum(row.is_followed for row in first.values()) == len(second)


def test_the_learner_sees_them_in_their_own_context_and_metrics_count_them_apart(finished: Path) -> None:
    assert max(series(finished, "learner/logprob_mismatch")) < 1e-5
    for update, entry in enumerate((e for e in entries(finished) if "learner/loss" in e), start=1):
        rows = trained(finished, update)
        alone, helped = ([rewarded(row) for row in rows if row.is_guided is kind] for kind in (False, True))
        assert entry["guided/offered"] == entry["guided/played"] == len(helped)
        assert entry["guided/solved"] == sum(helped)
        assert entry["episode/success_rate"] == pytest.approx(sum(alone) / 16)
        assert entry["reward/mean"] == pytest.approx(sum(alone) / 16)


def rewarded(row: Trajectory) -> float:
    return row.events_by_channel.get("outcome", 0.0)


def test_evaluation_is_unguided(finished: Path) -> None:
    store = Store(finished)
    tags = [tag for tag in store.tags() if tag.startswith("eval")]
    rows = [m for tag in tags for group in store.groups(tag) for m in group.trajectories]
    assert len(rows) == 2 * SMALL["eval.tasks"]
    assert not any(row.is_guided or row.is_followed for row in rows)


def test_two_runs_with_guidance_are_equal_bit_for_bit_and_so_is_a_resumed_one(
    finished: Path, cluster_address: str, tmp_path: Path
) -> None:
    parts = guided_run(cluster_address, tmp_path, "parts", learner__updates=2)
    assert losses(parts) == losses(finished)[:2]
    guided_run(cluster_address, tmp_path, "parts", resume=True)
    assert losses(parts) == losses(finished)
    assert len(losses(finished)) == 4
    assert any(loss != 0.0 for loss in losses(finished))
    assert series(parts, "guided/played") == series(finished, "guided/played")
    ids = [row.trajectory_id for row in trained(parts)]
    assert ids == [row.trajectory_id for row in trained(finished)]
    assert len(ids) == len(set(ids))


def test_with_fewer_slots_than_episodes_and_with_staleness_every_guided_attempt_comes_back(
    cluster_address: str, tmp_path: Path
) -> None:
    changes = {"rollout__slots": 3, "rollout__workers": 2, "rollout__max_staleness": 1, "eval__tasks": 0}
    run = guided_run(cluster_address, tmp_path, "async", **changes)
    offered = {row.trajectory_id for row in trained(run) if row.is_followed}
    assert {row.provenance["first_attempt"] for row in trained(run) if row.is_guided} == offered
    assert len(offered) > 8


def test_the_example_of_trying_again_trains(cluster_address: str, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "try_again.yaml"
    small = ["learner.updates=2", "learner.warmup_updates=0", "sft.steps=8", "sft.demonstrations=64", "eval.tasks=8"]
    small += ["rollout.groups_per_update=2", "rollout.group_size=4", "rollout.slots=16", "engine.slots=16"]
    quiet = ["log.progress=false", "log.tensorboard=false", f"runs_dir={tmp_path}", f"ray.address={cluster_address}"]
    summary = train(load_config(example, [*small, *quiet]))
    assert (summary["status"], summary["updates"], summary["failures"]) == ("finished", 2, {})
    run = tmp_path / "try_again"
    assert all(value <= 0 for value in series(run, "reward/repetition/mean"))
    assert len(series(run, "reward/outcome/mean")) == 2
