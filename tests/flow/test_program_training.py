"""An unmodified program with the official `openai` client plays in a real run, and what it played is trained on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from training import entries, small_run

from turnwise.store.store import Store

EXAMPLES = str(Path(__file__).parents[2] / "examples")
PROGRAM = str(Path(__file__).parent / "streaming_agent.py")
PLAYED_BY_A_PROGRAM = {
    "env__id": "turnwise/Tool-v0",
    "env__kwargs": {"services": ["tickets"], "calls": 1, "rules": False, "withheld": 0},
    "agent": {
        "name": "program",
        "command": [sys.executable, PROGRAM],
        "variables": {"PYTHONPATH": EXAMPLES},
        "format": "compact",
        "max_context": 320,
        "max_action_tokens": 12,
        "max_requests": 4,
    },
    "engine": {"name": "hf", "slots": 8, "max_context": 320, "batching": "continuous"},
    "rollout__group_size": 5,
    "rollout__groups_per_update": 1,
    "credit__channels": {"outcome": 1.0, "progress": 1.0, "format": 0.1},
    "sft__steps": 16,
    "sft__batch_size": 8,
    "sft__demonstrations": 128,
    "sft__lr": 3e-3,
    "eval__tasks": 0,
    "timeouts__stall_s": 240,
}


def test_what_a_program_plays_is_trained_token_by_token(cluster_address: str, tmp_path: Path) -> None:
    summary = small_run(cluster_address, tmp_path, **PLAYED_BY_A_PROGRAM)
    assert (summary["status"], summary["updates"], summary["failures"]) == ("finished", 2, {})
    store = Store(tmp_path / "run")
    played = [trajectory for update in (1, 2) for group in store.groups(update) for trajectory in group.trajectories]
    turns = [turn for trajectory in played for turn in trajectory.turns]
    assert len(played) == 10
    assert any(turn.call is not None for turn in turns)
    assert {event.channel for turn in turns for event in turn.events} >= {"outcome", "format"}
    assert {version for turn in turns for version in turn.versions.tolist()} == {0, 1}
    assert not any(turn.starts_context for turn in turns)  # what was streamed came back as it was sampled
    assert all(len(turn.action_ids) == len(turn.logprobs) > 0 and (turn.logprobs <= 0).all() for turn in turns)

    updates = [entry for entry in entries(tmp_path / "run") if "learner/loss" in entry]
    assert [entry["learner/logprob_mismatch_max"] for entry in updates] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert any(entry["learner/grad_norm"] > 0 for entry in updates)
    assert np.isfinite([entry["learner/loss"] for entry in updates]).all()
    assert [line for line in command_lines() if PROGRAM in line] == []


def command_lines() -> list[str]:
    """Of all processes that run now."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_text(errors="replace"))
        except OSError:
            continue
    return found
