"""The same command line on others' code: FrozenLake-v1 against the optimal policy, found by value iteration here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optimal import optimal_success

EXAMPLE = Path(__file__).parents[2] / "examples" / "frozenlake.yaml"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_frozenlake_is_learnt_to_nine_tenths_of_the_optimum(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "turnwise", "train", str(EXAMPLE), f"runs_dir={tmp_path}", "ray.dashboard=false"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=2900, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    heldout = json.loads((tmp_path / "frozenlake" / "summary.json").read_text())["heldout"]
    optimum = optimal_success("FrozenLake-v1")
    assert heldout["before"]["sampled"]["success_rate"] < 0.1
    assert heldout["after"]["greedy"]["success_rate"] >= 0.9 * optimum
