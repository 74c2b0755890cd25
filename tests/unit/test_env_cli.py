from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from turnwise import UserError
from turnwise.cli.env import app, read_options
from turnwise.cli.listing import known_environments, listed
from turnwise.tasks import make_env


def _run(*arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=said, env={"COLUMNS": "160"})


def test_list_shows_our_environments_with_what_they_need_and_how_long_observations_are() -> None:
    shown = _run("list")
    assert shown.exit_code == 0
    row = next(line for line in shown.output.splitlines() if "turnwise/Search-v0" in line)
    assert "search, open, answer" in row
    assert " 8 " in row
    assert "by seed" in row
    assert "turnwise/GymText-v0" in shown.output
    shown_too = ("turnwise/Search-v0", "turnwise/BFCL-v0", "turnwise/SWE-v0")
    rows = {spec.id: listed(spec) for spec in known_environments() if spec.id in shown_too}
    env = make_env("turnwise/Search-v0")
    first = sum(len(message["content"]) for message in env.reset(seed=0)[0])
    assert rows["turnwise/Search-v0"].observation.startswith(f"{first}, ")
    assert (rows["turnwise/Search-v0"].licence, rows["turnwise/Search-v0"].needs) == ("-", "-")
    assert (rows["turnwise/BFCL-v0"].licence, rows["turnwise/BFCL-v0"].needs) == ("Apache-2.0", "bfcl-eval")
    assert rows["turnwise/SWE-v0"].tools == "(no task file)"
    assert rows["turnwise/SWE-v0"].needs == "tasks, a sandbox"
    assert "CartPole" not in shown.output


def test_validate_shows_each_check_and_exits_with_0() -> None:
    shown = _run("validate", "turnwise/Search-v0", "hops=1-3", "mistakes.wrong_page=0.5")
    assert shown.exit_code == 0
    assert "determinism" in shown.output
    assert "FAILED" not in shown.output


def test_validate_exits_with_1_for_a_bad_environment() -> None:
    shown = _run("validate", "turnwise/Flaky-v0", "raise_p=1")
    assert shown.exit_code == 1
    assert "FAILED" in shown.output
    assert "flaky: raised in step" in shown.output


def test_validate_of_an_unknown_id_is_the_users_mistake() -> None:
    raised = _run("validate", "turnwise/Serch-v0").exception
    assert isinstance(raised, UserError)
    assert "did you mean turnwise/Search-v0?" in str(raised)


def test_play_shows_observations_tools_and_events_until_it_is_over() -> None:
    shown = _run(
        "play", "turnwise/Search-v0", "--seed", "3", said="foo\nopen Naples notes\nanswer Quarry\nnever read\n"
    )
    assert shown.exit_code == 0
    for text in (
        "user: What is the industry of the twin of Naples?",
        "answer text | citations",
        "format -1",
        "outcome +1",
    ):
        assert text in shown.output
    assert shown.output.rstrip().endswith("(over)")


def test_play_ends_with_its_input() -> None:
    shown = _run("play", "turnwise/GymText-v0", "id=Blackjack-v1", said="")
    assert shown.exit_code == 0
    assert shown.output.rstrip().endswith("(end of input)")


def test_play_says_when_turns_run_out() -> None:
    assert "(out of turns)" in _run("play", "turnwise/Search-v0", "max_turns=1", said="foo\n").output


def test_options_nest_and_have_types() -> None:
    read = read_options(["a.b=1", "a.c=true", "d=[1, x]", "e=1-4", "f=0.5", "g=a=b"])
    assert read == {"a": {"b": 1, "c": True}, "d": [1, "x"], "e": "1-4", "f": 0.5, "g": "a=b"}
    assert read_options(None) == {}


@pytest.mark.parametrize("option", ["hops", "=3"])
def test_an_option_without_a_value_is_the_users_mistake(option: str) -> None:
    with pytest.raises(UserError, match="not key=value"):
        read_options([option])


def test_an_interpolation_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hush")
    assert read_options(["a=${oc.env:SOME_SECRET}"]) == {"a": "${oc.env:SOME_SECRET}"}


@pytest.mark.parametrize("name", ["My_game", "my-game", "1game", "", "../game", "class", "json", "turnwise", "numpy"])
def test_init_refuses_a_name_that_does_not_fit(tmp_path: Path, name: str) -> None:
    raised = _run("init", name, "--folder", str(tmp_path)).exception
    assert isinstance(raised, UserError)
    assert raised.field == "name"
    assert list(tmp_path.iterdir()) == []


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "my_game").mkdir()
    (tmp_path / "my_game" / "mine.txt").write_text("mine")
    raised = _run("init", "my_game", "--folder", str(tmp_path)).exception
    assert isinstance(raised, UserError)
    assert "already exists" in str(raised)
    assert [path.name for path in tmp_path.rglob("*")] == ["my_game", "mine.txt"]


def test_init_into_a_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    raised = _run("init", "my_game", "--folder", str(tmp_path / "file")).exception
    assert isinstance(raised, UserError)
    assert raised.field == "folder"
