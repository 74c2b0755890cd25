"""Demonstrations from a file on real actors; what a file teaches, and which are refused, are unit tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training import SMALL, series, small, small_run
from typer.testing import CliRunner

from turnwise.cli.env import app
from turnwise.errors import UserError
from turnwise.train import warm_start


def test_a_run_that_imitated_a_file_goes_on_without_it(cluster_address: str, tmp_path: Path) -> None:
    file = tmp_path / "good.jsonl"
    words = ["demonstrate", SMALL["env.id"], "hops=1", "num_entities=10", "--episodes", "64", "--output", str(file)]
    assert CliRunner().invoke(app, words).exit_code == 0
    changes: dict[str, Any] = {"sft__files": [str(file)], "sft__demonstrations": 0, "eval__tasks": 0}
    assert (warm_start(small(cluster_address, tmp_path, **changes)) / "config.json").is_file()
    losses = series(tmp_path / "run", "sft/loss")
    assert len(losses) == SMALL["sft.steps"]
    assert losses[-1] < losses[0]
    file.unlink()
    changes["learner__updates"] = 1
    assert small_run(cluster_address, tmp_path, resume=True, **changes)["updates"] == 1
    with pytest.raises(UserError, match=r"sft\.files=.*good\.jsonl: cannot be read"):
        small_run(cluster_address, tmp_path, "fresh", **changes)
    assert not (tmp_path / "fresh").exists()
