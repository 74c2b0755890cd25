"""MiniWoB++ in a real browser: who solves its pages, their rewards, and that they are the same under the same seed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from web_pieces import needs_browser, one_browser

from turnwise.env.conformance import validate
from turnwise.errors import UserError
from turnwise.tasks import make_env, world_of
from turnwise_envs.web.solvers import SOLVERS, Scene
from turnwise_envs.web.tree import Row

ID = "turnwise/MiniWoB-v0"

TRIED = [
    "choose-list",
    "click-button",
    "click-checkboxes",
    "click-color",
    "click-dialog",
    "click-link",
    "click-menu",
    "click-option",
    "click-scroll-list",
    "click-tab",
    "click-tab-2-hard",
    "click-widget",
    "email-inbox-reply",
    "enter-date",
    "enter-password",
    "enter-text",
    "enter-time",
    "find-word",
    "focus-text-2",
    "read-table-2",
    "simple-arithmetic",
]

MOVES = ["click 1", "fill 1 | a", "hover 2", "click 3", "scroll 0 | 50", "press 1 | ArrowDown", "nonsense", "click 2"]
"""What is done on pages that nobody solves."""


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[None]:
    with one_browser():
        yield


def play(page: str, seed: int, moves: Sequence[str] = (), **kwargs: Any) -> list[Any]:
    """Play an episode on a page, by its solver or by these moves, and return all that was seen."""
    env, rng = make_env(ID, {"tasks": [page], **kwargs}), np.random.default_rng(seed)
    try:
        seen: list[Any] = [env.reset(seed=seed)]
        for turn in range(20):
            action = world_of(env).demonstrate(rng) if not moves else moves[turn % len(moves)]
            assert action is not None
            seen.append(env.step(action))
            if seen[-1][2] or seen[-1][3]:
                break
        return seen
    finally:
        env.close()


def outcomes(seen: list[Any]) -> list[float]:
    return [event.value for step in seen[1:] for event in step[4]["events"] if event.channel == "outcome"]


@needs_browser
def test_more_than_twenty_pages_are_solved_by_reading_them_and_four_threads_share_the_browser() -> None:
    with ThreadPoolExecutor(4) as threads:
        played = dict(zip(TRIED, threads.map(lambda page: play(page, 3), TRIED), strict=True))
    assert len(played) > 20
    assert {page: outcomes(seen) for page, seen in played.items() if outcomes(seen) != [1.0]} == {}


@needs_browser
@pytest.mark.parametrize(
    "page", ["click-collapsible-2", "email-inbox", "choose-date", "chase-circle", "use-autocomplete"]
)
def test_the_same_seed_and_actions_give_the_same_episode_whatever_moves_by_itself(page: str) -> None:
    moves = () if page in SOLVERS else MOVES[:4]
    first, again, other = (play(page, seed, moves, max_turns=9) for seed in (5, 5, 7))
    assert first == again
    assert first != other  # of what is folded away, not at first sight


@needs_browser
def test_the_outcome_is_the_pages_own_and_running_out_of_turns_is_failing() -> None:
    wrong = play("click-test-2", 0, ["click 1", "click 2"])
    assert outcomes(wrong) in ([1.0], [-1.0])
    late = play("enter-text", 0, ["noop 10000", "nonsense"], max_turns=2)
    assert (outcomes(late), late[-1][2], late[-1][3]) == ([-1.0], False, True)
    assert [event.channel for event in late[-1][4]["events"]] == ["format", "outcome"]
    assert outcomes(play("enter-text", 0, ["noop 10000", "noop 10000"], max_turns=2)) == [-1.0]
    partly = play("click-checkboxes-soft", 0, ["click 1", "click 2", "click 3", "click 4", "click 5"], max_turns=9)
    assert all(-1.0 <= value <= 1.0 for value in outcomes(partly))


@needs_browser
def test_held_out_tasks_are_of_pages_or_kinds_that_training_never_shows() -> None:
    env = make_env(ID, {"tasks": ["click-test-transfer"], "eval_tasks": ["click-test", "click-test-transfer"]})
    named = {
        split: {env.reset(seed=seed, options={"split": split})[1]["gold"]["question"] for seed in range(2)}
        for split in ("train", "eval")
    }
    env.close()
    assert named == {"train": {"Click button ONE."}, "eval": {"Click the button.", "Click button TWO."}}


@needs_browser
def test_it_keeps_to_what_every_environment_must() -> None:
    checks = validate(ID, {"tasks": ["enter-password"], "max_turns": 6}, limit_s=60.0)
    assert [f"{check.name}: {check.detail}" for check in checks if not check.passed] == []


@needs_browser
@pytest.mark.slow
def test_every_page_is_the_same_under_the_same_seed() -> None:
    world = world_of(make_env(ID))
    pages = world._tasks  # type: ignore[attr-defined]
    assert len(pages) == 130
    assert [page for page in pages if play(page, 1, MOVES) != play(page, 1, MOVES)] == []


@needs_browser
@pytest.mark.slow
def test_every_solver_solves_its_page() -> None:
    assert [page for page in SOLVERS for seed in range(5) if outcomes(play(page, seed)) != [1.0]] == []


def test_a_solver_goes_on_from_whatever_the_page_shows() -> None:
    rows = [
        Row(depth=0, bid="1", role="checkbox", name="a", states=("checked",)),
        Row(depth=0, bid="2", role="checkbox", name="b"),
        Row(depth=0, bid="3", role="button", name="Submit"),
    ]
    solve = SOLVERS["click-checkboxes"]
    assert solve(Scene(task="Select b and click Submit.", rows=rows)) == "click 1"
    assert solve(Scene(task="Select a, b and click Submit.", rows=rows)) == "click 2"
    assert solve(Scene(task="Select a and click Submit.", rows=rows)) == "click 3"


@needs_browser
@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"tasks": ["click-buton"]}, "env.kwargs.tasks=click-buton: no such name; did you mean click-button?"),
        ({"tasks": 3}, "env.kwargs.tasks=3: no such name; one of: "),
        ({"eval_tasks": []}, "env.kwargs.eval_tasks=[]: empty; give some of ascending-numbers, bisect-angle, "),
        ({"max_turns": 0}, "env.kwargs.max_turns=0: out of range; give a whole number from 1 to 1000"),
        ({"mistakes": 2}, "env.kwargs.mistakes=2: not a probability; give a number from 0 to 1"),
        ({"observation": "html"}, "env.kwargs.observation=html: no such name; give one of tree, diff"),
        ({"max_chars": 3}, "env.kwargs.max_chars=3: out of range; give a whole number from 200 to 1000000"),
        ({"coordinates": "yes"}, "env.kwargs.coordinates=yes: neither true nor false; give one of them"),
        ({"screenshots": 3}, "env.kwargs.screenshots=3: no folder's name; give a text, or leave it out"),
    ],
)
def test_an_option_that_does_not_fit_is_the_users_mistake(kwargs: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(ID, kwargs)
    assert str(raised.value).startswith(line)


@pytest.mark.parametrize(
    ("lacking", "line"),
    [
        ("turnwise_envs.web.miniwob.importlib.util.find_spec", "the package miniwob, which has the pages, is not"),
        ("turnwise_envs.web.launch.shutil.which", "bubblewrap, which confines the browser, is not installed; apt-get"),
    ],
)
def test_what_is_not_installed_is_named_with_its_remedy(
    lacking: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("playwright")
    from turnwise_envs.web.miniwob import pages_folder

    pages_folder.cache_clear()
    monkeypatch.setattr(lacking, lambda *_: None)
    with pytest.raises(UserError, match=line):
        make_env(ID)
    pages_folder.cache_clear()
