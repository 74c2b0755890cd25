import io
import sys

import pytest

from turnwise.monitor import Progress, Snapshot
from turnwise.monitor.progress import sparkline


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Hung(io.StringIO):
    def write(self, text):
        raise BrokenPipeError("reader is gone")


class HungTerminal(Hung):
    def isatty(self):
        return True


def snapshot(update, **changes):
    fields = {"reward": 0.5, "success": 0.75, "staleness": 0.25, "tokens_per_s": 5213.0, "episodes_per_s": 12.34}
    return Snapshot(run="search", update=update, total_updates=40, elapsed_s=65.0, **{**fields, **changes})


def test_without_a_terminal_there_is_one_plain_line_an_update():
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        for update in (0, 0, 1, 1, 2):
            progress.update(snapshot(update, failures={"env:step": 3, "infra:worker": 1}))
    assert stream.getvalue().splitlines() == [
        f"update {update}/40  1:05  reward 0.500  success 0.750  staleness 0.25  tokens/s 5213  episodes/s 12.3  "
        "failures env:step 3, infra:worker 1"
        for update in (1, 2)
    ]


def test_a_terminal_shows_everything_that_moves(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        for update in range(4):
            state = {"stage": "rollout", "phases": {"generate": 90, "step": 6}, "episodes": 32, "episodes_needed": 128}
            progress.update(snapshot(update, success=update / 4, failures={"env:step": 3}, **state))
    text = stream.getvalue()
    parts = [
        "search",
        "update 3/40",
        "rollout",
        "32/128 finished, running: generate 90, step 6",
        "▃▅▇",
        "5213 tokens/s",
    ]
    for part in (*parts, "12.3 episodes/s", "0.25", "env:step 3", "1:05"):
        assert part in text


@pytest.mark.parametrize("stream", [Hung(), HungTerminal()])
def test_a_broken_display_does_not_end_the_run(stream):
    with Progress(stream=stream) as progress:
        for update in range(3):
            progress.update(snapshot(update))


def test_a_terminal_that_goes_away_gives_standard_output_back(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, before = Terminal(), sys.stdout
    with Progress(stream=stream) as progress:
        progress.update(snapshot(1))
        assert sys.stdout is not before
        stream.close()
        progress.update(snapshot(2))
        assert sys.stdout is before


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_shows_nothing(stream):
    with Progress(is_quiet=True, stream=stream) as progress:
        progress.update(snapshot(1))
    assert stream.getvalue() == ""


def test_what_is_not_measured_yet_is_left_out():
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.update(Snapshot(run="r", update=1, total_updates=2, elapsed_s=3700))
    assert stream.getvalue() == "update 1/2  1:01:40\n"


def test_markup_in_a_cause_is_shown_as_it_is(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.update(snapshot(1, failures={"env:[/red]": 1}))
    assert "env:[/red] 1" in stream.getvalue()


def test_sparklines_span_their_range():
    assert sparkline([0.0, 0.5, 1.0], 0.0, 1.0) == "▁▅█"
    assert sparkline([-3.0, None, 5.0]) == "▁ █"
    assert sparkline([float("nan"), 2.0]) == " ▅"
    assert sparkline([]) == sparkline([None]) == ""
