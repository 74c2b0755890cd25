"""`turnwise eval`: which model and configuration are meant, and what is shown."""

import json
from pathlib import Path

import numpy as np
import pytest

from turnwise.cli import run_command
from turnwise.cli.evaluate import episode_text, find_model
from turnwise.errors import UserError
from turnwise.records import End, Event, Task, Trajectory, Turn


def make_run(folder: Path, *, updates: tuple[int, ...] = (), has_warm_start: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 5\n")
    models = [folder / "checkpoints" / f"update-{update:06d}" for update in updates]
    models += [folder / "warmstart"] if has_warm_start else []
    for model in models:
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    return folder


def test_a_run_means_its_newest_checkpoint_and_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs" / "mine", updates=(10, 20), has_warm_start=True)
    monkeypatch.chdir(tmp_path)
    newest = run / "checkpoints" / "update-000020"
    assert find_model(str(run), []) == (str(newest), run / "config.yaml")
    assert [Path(each or "").resolve() for each in find_model("mine", [])] == [newest, run / "config.yaml"]
    assert find_model("mine", [f"runs_dir={tmp_path}/runs"]) == (str(newest), run / "config.yaml")


def test_a_checkpoint_brings_the_configuration_of_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", updates=(10,), has_warm_start=True)
    checkpoint = run / "checkpoints" / "update-000010"
    assert find_model(str(checkpoint), []) == (str(checkpoint), run / "config.yaml")
    assert find_model(str(run / "warmstart"), []) == (str(run / "warmstart"), run / "config.yaml")


def test_a_run_without_checkpoint_means_its_warm_start(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", has_warm_start=True)
    assert find_model(str(run), []) == (str(run / "warmstart"), run / "config.yaml")
    with pytest.raises(UserError, match="no checkpoint yet"):
        find_model(str(make_run(tmp_path / "young")), [])


def test_a_registered_model_comes_without_configuration() -> None:
    assert find_model("tiny", []) == ("tiny", None)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere"], "error: MODEL=nowhere: no such model or run"),
        (["tiny", "eval.tasks=0"], "error: eval.tasks=0: there would be nothing to play"),
        (["tiny", "--json", "absent/x.json"], "error: --json=absent/x.json: its folder does not exist"),
        (["tiny", "lr=3"], "error: lr=3: no such key"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["eval", *words]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(problem)
    assert captured.count("\n") == 1


def test_an_episode_is_shown_turn_by_turn_with_its_rewards() -> None:
    ids = np.zeros(1, np.int32)
    turn = Turn(
        observation_ids=ids,
        action_ids=ids,
        logprobs=np.zeros(1, np.float32),
        versions=ids,
        observation="question?\n",
        action="answer [x]",
        is_valid=False,
        events=(Event(channel="outcome", value=1.0),),
    )
    task = Task(env_id="e", task_id="1", seed=1)
    trajectory = Trajectory(
        trajectory_id="g/0", group_id="g", index=0, task=task, turns=(turn,), end=End.TRUNCATED, end_cause="max_turns"
    )
    assert episode_text(trajectory).splitlines() == [
        "question?",
        "> answer [x]   (not valid)",
        "  reward: outcome +1",
        "[truncated (max_turns)]",
    ]


def test_json_keys_are_those_of_the_summary() -> None:
    from turnwise.cli.evaluate import _measured
    from turnwise.evaluate import EvalResult

    result = EvalResult(
        mode="greedy", num_success=3, num_episodes=4, num_failed=1, mean_turns=2.0, mean_action_tokens=9.0
    )
    measured = _measured(result)
    assert json.loads(json.dumps(measured))["success_rate"] == 0.75
    low, high = measured["interval_95"]
    assert 0.3 < low < 0.75 < high < 0.96
    assert (measured["successes"], measured["episodes"], measured["failures"]) == (3, 4, 1)
