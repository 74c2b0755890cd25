"""Demonstrations from files on real actors: what `turnwise env demonstrate` wrote is imitated, alone or mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training import SMALL, series, small_run, words
from typer.testing import CliRunner

from turnwise.cli.env import app
from turnwise.config import load_config
from turnwise.errors import UserError
from turnwise.train import warm_start

COUNT = SMALL["sft.demonstrations"]
UNRECORDED = {key: value for key, value in SMALL.items() if key != "sft.demonstrations"}


def demonstrated(file: Path, *options: str) -> Path:
    given = ["hops=1", "num_entities=10", "--episodes", str(COUNT), "--output", str(file), *options]
    assert CliRunner().invoke(app, ["demonstrate", SMALL["env.id"], *given]).exit_code == 0
    return file


def warmed(address: str, folder: Path, name: str, **changes: Any) -> list[float]:
    """Do a warm start alone and return its losses."""
    settings = {**UNRECORDED, "name": name, "runs_dir": str(folder), "ray.address": address}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    assert (warm_start(load_config(None, words(settings))) / "config.json").is_file()
    return series(folder / name, "sft/loss")


def test_imitating_a_file_is_imitating_what_the_run_would_record_bit_for_bit(
    cluster_address: str, tmp_path: Path
) -> None:
    everything = demonstrated(tmp_path / "all.jsonl", "--min-outcome", "-1")
    from_file = warmed(cluster_address, tmp_path, "file", sft__files=[str(everything)])
    assert len(from_file) == SMALL["sft.steps"]
    assert from_file[-1] < from_file[0]
    assert from_file == warmed(cluster_address, tmp_path, "recorded", sft__demonstrations=COUNT)
    assert from_file == warmed(cluster_address, tmp_path, "again", sft__files=[str(everything)])
    both = warmed(cluster_address, tmp_path, "both", sft__files=[str(everything)], sft__demonstrations=COUNT)
    assert len(both) == len(from_file)
    assert both != from_file


def test_a_run_that_imitated_a_file_goes_on_without_it(cluster_address: str, tmp_path: Path) -> None:
    good = demonstrated(tmp_path / "good.jsonl")
    changes: dict[str, Any] = {"sft__files": [str(good)], "sft__demonstrations": 16, "eval__tasks": 0}
    small_run(cluster_address, tmp_path, "whole", learner__updates=4, **changes)
    small_run(cluster_address, tmp_path, "parts", learner__updates=2, **changes)
    good.unlink()
    summary = small_run(cluster_address, tmp_path, "parts", learner__updates=4, resume=True, **changes)
    assert summary["updates"] == 4
    assert series(tmp_path / "parts", "learner/loss") == series(tmp_path / "whole", "learner/loss")
    with pytest.raises(UserError, match=r"sft\.files=.*good\.jsonl: cannot be read"):
        small_run(cluster_address, tmp_path, "fresh", **changes)
    assert not (tmp_path / "fresh").exists()


def test_a_file_of_held_out_tasks_is_refused_before_anything_is_written(cluster_address: str, tmp_path: Path) -> None:
    heldout = demonstrated(tmp_path / "heldout.jsonl", "--split", "eval", "--min-outcome", "-1")
    assert json.loads(heldout.read_text().splitlines()[0])["task"]["split"] == "eval"
    with pytest.raises(UserError, match=r"heldout\.jsonl:1: is of a held-out task"):
        small_run(cluster_address, tmp_path, sft__files=[str(heldout)], sft__demonstrations=0)
    assert not (tmp_path / "run").exists()
