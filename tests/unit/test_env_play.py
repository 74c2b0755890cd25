"""A person at the terminal: commands, what is recorded of the episode, pictures; and demonstrators that record."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result
from web_pieces import needs_browser

from turnwise import TurnEnv, UserError, warmstart
from turnwise.cli.env import app
from turnwise.cli.play import play
from turnwise.config import load_config
from turnwise.demonstration_files import read
from turnwise.errors import EnvError
from turnwise.records import Task

SEARCH = "turnwise/Search-v0"
SOLUTION = ("open Naples notes", "answer Quarry")  # of seed 3


def run(*arguments: str, lines: Sequence[str] = ()) -> Result:
    said = "".join(f"{line}\n" for line in lines)
    return CliRunner().invoke(app, list(arguments), input=said, env={"COLUMNS": "160"})


def played(*lines: str, options: Sequence[str] = ()) -> str:
    shown = run("play", SEARCH, "--seed", "3", *options, lines=lines)
    assert shown.exit_code == 0, shown.exception
    return shown.output


def actions(file: Path) -> list[list[str]]:
    shown = [demonstration for _, demonstration in read(file)]
    return [[m["content"] for m in each.messages if m["role"] == "assistant"] for each in shown]


def test_an_episode_that_went_well_is_appended(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    assert f"recorded in {file}: 2 actions, outcome 1" in played(*SOLUTION, options=["--record", str(file)])
    played(*SOLUTION, options=["--record", str(file)])
    assert actions(file) == [list(SOLUTION)] * 2
    (_, first), (_, again) = read(file)
    assert first == again
    assert first.task == Task(env_id=SEARCH, task_id="3", seed=3)
    assert [message["role"] for message in first.messages] == ["system", "user", *["assistant", "tool"] * 2]
    found, warnings = warmstart.read_for(load_config(None, ["sft.steps=1", f"sft.files=[{file}]"]).config)
    assert (found, warnings) == ([first, again], [])


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["open Naples notes", "answer Sand"], "its outcome 0 is not above 0.5"),
        (["open Naples notes", ":quit", "answer Quarry"], "the episode did not end"),
        (["open Naples notes"], "the episode did not end"),
    ],
)
def test_what_went_otherwise_is_kept_only_if_all_is(tmp_path: Path, lines: list[str], why: str) -> None:
    file = tmp_path / "mine.jsonl"
    shown = played(*lines, options=["--record", str(file)])
    assert f"not recorded: {why}" in shown
    assert not file.exists()
    played(*lines, options=["--record", str(file), "--keep-all"])
    assert actions(file) == [lines[: 1 if ":quit" in lines else 2]]


def test_wrong_and_empty_lines_cost_nothing_while_recording(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    wrong = ["foo", "", "  ", "open", "open a | b", ":nonsense", ":", "half \ud800"]
    said = io.StringIO("".join(f"{line}\n" for line in [*wrong, *SOLUTION]))
    shown = at_terminal(said.readline, file=file)
    assert "not sent, since it would be recorded: unknown tool foo; expected one of search, open, answer" in shown
    assert "open takes at most 1 arguments, got 2" in shown
    assert "UTF-8" in shown
    assert "no command :nonsense; :help shows them" in shown
    assert "format" not in shown
    assert actions(file) == [list(SOLUTION)]


def test_commands_show_help_tools_worth_and_a_hint_and_cost_no_turn() -> None:
    worth = [":oracle open Naples notes", SOLUTION[0], ":oracle open Naples notes"]
    shown = played("", ":help", ":tools", ":oracle", ":hint", *worth)
    assert ":hint            what" in shown
    assert shown.count("answer text | citations") == 2
    assert "of which action? :oracle ACTION" in shown
    assert [line for line in shown.splitlines() if line in ("> +1", "> +0")] == ["> +1", "> +0"]
    assert "> search mayor Naples" in shown  # the hint of a fallible demonstrator
    assert shown.rstrip().endswith("(end of input)")
    assert "format" not in shown


def test_an_environment_without_oracle_and_demonstrator_says_so_and_two_colons_are_one() -> None:
    with_world("Bare", Bare)
    shown = run("play", "play-tests/Bare-v0", lines=[":oracle x", ":hint", "::quit"]).output
    assert "this environment has no oracle" in shown
    assert "no hint" in shown
    assert "heard :quit" in shown


def test_a_block_of_lines_is_one_action_whatever_it_begins_with(tmp_path: Path) -> None:
    with_world("Bare", Bare)
    options = ["--record", str(tmp_path / "all.jsonl"), "--keep-all"]
    block = ['"""', " ", '"""', '"""', "one", "", "  :two", '"""', '"""', ":three", '"""', "::four"]
    run("play", "play-tests/Bare-v0", *options, lines=block)
    assert actions(tmp_path / "all.jsonl") == [["one\n\n  :two", ":three", ":four"]]
    call = ['"""', "<tool_call>", '{"name": "open", "arguments":', '{"page": "Naples notes"}}', "</tool_call>", '"""']
    played(*call, SOLUTION[1], options=["--record", str(tmp_path / "mine.jsonl")])
    assert [len(each) for each in actions(tmp_path / "mine.jsonl")] == [2]
    lines: Iterator[Any] = iter(['"""\n', "open\n", KeyboardInterrupt, *(f"{line}\n" for line in SOLUTION)])
    at_terminal(lambda: spoken(next(lines)), file=tmp_path / "dropped.jsonl")
    assert actions(tmp_path / "dropped.jsonl") == [list(SOLUTION)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_that_is_closed_loses_no_turn_before(tmp_path: Path, number: signal.Signals) -> None:
    lines: Iterator[Any] = iter([f"{SOLUTION[0]}\n", number])
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left:
        at_terminal(lambda: spoken(next(lines)), file=tmp_path / "all.jsonl", keeps_all=True)
    assert left.value.code == 128 + number
    assert actions(tmp_path / "all.jsonl") == [[SOLUTION[0]]]
    assert signal.getsignal(number) is before


def test_what_is_shown_is_as_it_was_written_and_commands_no_terminal() -> None:
    with_world("Bare", Bare)
    assert (
        "heard :smile: [b]x[/b] ?[2Jé\u3000."
        in run("play", "play-tests/Bare-v0", lines=["::smile: [b]x[/b] \x1b[2Jé\u3000."]).output
    )


def test_bytes_that_are_no_text_are_an_action_that_cannot_be_read() -> None:
    with_world("Bare", Bare)
    told = CliRunner().invoke(app, ["play", "play-tests/Bare-v0"], input=b"caf\xe9\none\n").output
    assert "user: error: an action is a text" in told
    assert "heard one" in told


def test_an_interrupt_drops_a_line_and_a_second_one_in_a_row_leaves(tmp_path: Path) -> None:
    lines: Iterator[Any] = iter([KeyboardInterrupt, f"{SOLUTION[0]}\n", KeyboardInterrupt, f"{SOLUTION[1]}\n"])
    shown = at_terminal(lambda: spoken(next(lines)), file=tmp_path / "mine.jsonl")
    assert shown.count("(dropped; Ctrl-C again or :quit leaves)") == 2
    assert actions(tmp_path / "mine.jsonl") == [list(SOLUTION)]
    lines = iter([f"{SOLUTION[0]}\n", KeyboardInterrupt, KeyboardInterrupt])
    shown = at_terminal(lambda: spoken(next(lines)), file=tmp_path / "all.jsonl", keeps_all=True)
    assert "(stopped)" in shown
    assert actions(tmp_path / "all.jsonl") == [[SOLUTION[0]]]


def test_an_environment_that_fails_loses_no_turn_before(tmp_path: Path) -> None:
    with_world("Bare", Bare)
    options = ["--record", str(tmp_path / "all.jsonl"), "--keep-all"]
    assert isinstance(run("play", "play-tests/Bare-v0", *options, lines=["one", "fail"]).exception, EnvError)
    assert actions(tmp_path / "all.jsonl") == [["one"]]


def test_a_file_that_cannot_take_the_episode_is_refused_before_it_is_played(tmp_path: Path) -> None:
    played(*SOLUTION, options=["--record", str(tmp_path / "search.jsonl")])
    (tmp_path / "notes.txt").write_text("notes\n")
    same = run("play", f"turnwise_envs:{SEARCH}", "--record", str(tmp_path / "search.jsonl"))
    assert same.exit_code == 0
    for name, env_id, problem in (
        ("nowhere/x.jsonl", SEARCH, "x.jsonl: cannot be written"),
        ("notes.txt", SEARCH, "notes.txt:1: Expecting value"),
        ("search.jsonl", "turnwise/Sokoban-v0", "search.jsonl:1: holds demonstrations of turnwise/Search-v0"),
    ):
        raised = run("play", env_id, "--record", str(tmp_path / name), lines=["never read"]).exception
        assert isinstance(raised, UserError)
        assert str(raised).startswith("--record=")
        assert problem in str(raised)
    assert (tmp_path / "notes.txt").read_text() == "notes\n"
    raised = run("play", SEARCH, "--keep-all").exception
    assert str(raised).startswith("--keep-all=true: has no effect without --record")
    assert "did you mean eval" in str(run("play", SEARCH, "--split", "evl").exception)


def test_pictures_are_named_where_there_are_any(tmp_path: Path) -> None:
    with_world("Pictures", Pictures)
    shown = run("play", "play-tests/Pictures-v0", "--screenshots", str(tmp_path), lines=["one"]).output
    assert f"picture: {tmp_path}/0.png" in shown
    raised = run("play", SEARCH, "--screenshots", str(tmp_path)).exception
    assert str(raised) == f"--screenshots={tmp_path}: {SEARCH} has no pictures; leave it out"


@needs_browser
def test_a_page_is_shown_as_its_tree_and_its_picture_is_saved(tmp_path: Path) -> None:
    options = ["tasks=[click-test]", "--screenshots", str(tmp_path / "shots"), "--record", str(tmp_path / "d.jsonl")]
    shown = run("play", "turnwise/MiniWoB-v0", *options, lines=[":hint", "click 1"]).output
    assert '[1] button "Click Me!"' in shown
    assert "click 1\n" in shown
    named = [line.removeprefix("picture: ") for line in shown.splitlines() if line.startswith("picture: ")]
    assert len(named) == 2
    assert all(Path(name).read_bytes().startswith(b"\x89PNG") for name in named)
    assert actions(tmp_path / "d.jsonl") == [["click 1"]]


def test_a_demonstrator_records_what_a_warm_start_of_its_seed_would(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    words = ["hops=1", "--episodes", "12", "--seed", "4", "--min-outcome", "-1", "--output", str(file)]
    shown = run("demonstrate", SEARCH, *words)
    assert shown.exit_code == 0
    assert shown.output.startswith("kept 12 of 12 episodes, ")
    given = ["seed=4", "sft.steps=1", "sft.demonstrations=12", "env.kwargs={hops: 1}"]
    everything = [demonstration for _, demonstration in read(file)]
    assert everything == warmstart.demonstrations(load_config(None, given).config, print)
    good = [each for each in everything if each.outcome >= 1]
    assert 0 < len(good) < 12
    words = ["hops=1", "--episodes", "12", "--seed", "4", "--output", str(tmp_path / "good.jsonl")]
    shown = run("demonstrate", SEARCH, *words)
    assert shown.output.startswith(f"kept {len(good)} of 12 episodes, ")
    assert f"left out: {12 - len(good)} with an outcome below 1" in shown.output
    assert [demonstration for _, demonstration in read(tmp_path / "good.jsonl")] == good


def test_held_out_tasks_can_be_demonstrated_and_say_so(tmp_path: Path) -> None:
    words = ["--split", "eval", "--episodes", "2", "--min-outcome", "-1", "--output", str(tmp_path / "d.jsonl")]
    assert run("demonstrate", SEARCH, *words).exit_code == 0
    assert {demonstration.task.split for _, demonstration in read(tmp_path / "d.jsonl")} == {"eval"}


def test_what_a_demonstrator_cannot_do_is_counted_and_an_interrupt_loses_nothing(tmp_path: Path) -> None:
    with_world("Moody", Moody)
    shown = run("demonstrate", "play-tests/Moody-v0", "--episodes", "40", "--output", str(tmp_path / "d.jsonl"))
    counts = {"below": 0, "without": 0, "failed": 0}
    for line in shown.output.splitlines()[1:]:
        counts |= {name: int(line.split()[2]) for name in counts if name in line}
    kept = len(read(tmp_path / "d.jsonl"))
    assert shown.output.startswith(f"kept {kept} of 40 episodes, {kept} actions, in ")
    assert kept + sum(counts.values()) == 40
    assert all(counts.values())
    assert "failed, the first: the moon" in shown.output
    words = ["interrupt=true", "--episodes", "40", "--output", str(tmp_path / "some.jsonl")]
    assert run("demonstrate", "play-tests/Moody-v0", *words).exit_code == 130
    assert 0 < len(read(tmp_path / "some.jsonl")) < 40


def test_demonstrating_nothing_leaves_no_file(tmp_path: Path) -> None:
    with_world("Bare", Bare)
    output = ["--output", str(tmp_path / "d.jsonl")]
    raised = run("demonstrate", "play-tests/Bare-v0", *output).exception
    assert str(raised).startswith("env.id=play-tests/Bare-v0: the environment has no demonstrations; write some with")
    shown = run("demonstrate", SEARCH, "--episodes", "2", "--min-outcome", "5", *output)
    assert shown.exit_code == 1
    assert shown.output.startswith("kept 0 of 2 episodes, so there is no file")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "d.jsonl").write_text("mine")
    assert "is there already; name a new file" in str(run("demonstrate", SEARCH, *output).exception)
    assert (tmp_path / "d.jsonl").read_text() == "mine"
    (tmp_path / "gone").symlink_to("/proc/none.jsonl")
    unwritable = run("demonstrate", SEARCH, "--output", str(tmp_path / "gone")).exception
    assert str(unwritable).startswith(f"--output={tmp_path}/gone: cannot be written (No such file")
    nowhere = run("demonstrate", SEARCH, "--output", str(tmp_path / "no" / "d.jsonl")).exception
    assert "there is no folder" in str(nowhere)


def at_terminal(readline: Any, **options: Any) -> str:
    """Play the search task with a standard input of one's own, and return what was shown."""
    stdin, shown = sys.stdin, io.StringIO()
    sys.stdin = type("Terminal", (), {"readline": staticmethod(readline)})()  # type: ignore[assignment]
    try:
        task = Task(env_id=SEARCH, task_id="3", seed=3)
        play(SEARCH, {}, task, Console(file=shown, width=160, highlight=False), **options)
    finally:
        sys.stdin = stdin
    return shown.getvalue()


def spoken(item: Any) -> str:
    if item is KeyboardInterrupt:
        raise KeyboardInterrupt
    if isinstance(item, signal.Signals):
        os.kill(os.getpid(), item)
    return str(item)


def with_world(name: str, world: type) -> None:
    if f"play-tests/{name}-v0" not in gymnasium.registry:
        gymnasium.register(id=f"play-tests/{name}-v0", entry_point=world, disable_env_checker=True)


class Bare(TurnEnv):
    """Hears."""

    def begin(self, options: Any) -> str:
        return "hello"

    def act(self, action: Any) -> str:
        if action["content"] == "fail":
            raise EnvError("the roof")
        return f"heard {action['content']}"


class Pictures(TurnEnv):
    """Has a picture of each turn."""

    def __init__(self, screenshots: str = "") -> None:
        super().__init__()
        self.screenshots = screenshots

    def begin(self, options: Any) -> dict[str, str]:
        return {"role": "user", "content": "look", "image": f"{self.screenshots}/{self.num_turns}.png"}

    def act(self, action: Any) -> dict[str, str]:
        return self.begin({})


class Moody(TurnEnv):
    """Its demonstrator wins, loses, fails or does nothing, as the seed decides."""

    def __init__(self, interrupt: bool = False) -> None:
        super().__init__()
        self.interrupt, self.count = interrupt, 0

    def begin(self, options: Any) -> str:
        self.mood, self.count = int(self.np_random.integers(4)), self.count + 1
        if self.interrupt and self.count == 20:
            raise KeyboardInterrupt
        return json.dumps(self.mood)

    def act(self, action: Any) -> str:
        if self.mood == 2:
            raise EnvError("the moon")
        self.reward("outcome", float(self.mood == 0))
        self.finish()
        return "over"

    def demonstrate(self, rng: Any) -> str | None:
        return None if self.mood == 3 else "go"
