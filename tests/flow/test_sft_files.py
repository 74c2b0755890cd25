"""Demonstrations from a file on real actors; what a file teaches, and which are refused, are unit tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training import SMALL, series, words
from typer.testing import CliRunner

from turnwise.cli.env import app
from turnwise.config import load_config
from turnwise.errors import UserError
from turnwise.preflight import check
from turnwise.train import warm_start


def test_what_a_demonstrator_wrote_is_imitated_and_not_asked_for_again(cluster_address: str, tmp_path: Path) -> None:
    file = tmp_path / "good.jsonl"
    given = ["demonstrate", SMALL["env.id"], "hops=1", "num_entities=10", "--episodes", "64", "--output", str(file)]
    assert CliRunner().invoke(app, given).exit_code == 0
    settings: dict[str, Any] = {**SMALL, "name": "run", "runs_dir": str(tmp_path), "ray.address": cluster_address}
    settings |= {"sft.demonstrations": 0, "sft.files": [str(file)]}
    assert (warm_start(load_config(None, words(settings))) / "config.json").is_file()
    losses = series(tmp_path / "run", "sft/loss")
    assert len(losses) == SMALL["sft.steps"]
    assert losses[-1] < losses[0]
    file.unlink()
    check(load_config(None, words(settings | {"resume": True})))
    with pytest.raises(UserError, match=r"sft\.files=.*good\.jsonl: cannot be read"):
        check(load_config(None, words(settings | {"name": "fresh"})))
