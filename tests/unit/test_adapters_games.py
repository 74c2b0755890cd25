"""Questions and games of reasoning-gym, gem and textarena: rewards, determinism, held-out tasks, what is refused."""

from __future__ import annotations

import logging
import random
import sys
from typing import Any

import numpy as np
import pytest

from turnwise import UserError
from turnwise.env.conformance import MALFORMED, validate
from turnwise.tasks import TaskSet, make_env, world_of
from turnwise_envs.adapters.package import load

QUESTION, GEM, ARENA = "turnwise/ReasoningGym-v0", "turnwise/Gem-v0", "turnwise/TextArena-v0"
GAMES = [
    (QUESTION, {"dataset": "leg_counting"}),
    (QUESTION, {"dataset": "number_sequence", "config": {"min_terms": 4, "max_terms": 5}}),
    (GEM, {"id": "game:GuessTheNumber-v0-hard"}),
    (GEM, {"id": "game:Minesweeper-v0-easy"}),
    (ARENA, {"id": "GuessTheNumber-v0"}),
    (ARENA, {"id": "TowerOfHanoi-v0"}),
]


def _events(answer: tuple[Any, ...]) -> dict[str, float]:
    return {event.channel: event.value for event in answer[4]["events"]}


def _episode(env: Any, seed: int, actions: list[str]) -> list[Any]:
    """Return all that an episode says, until its end."""
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for action in actions:
        answer = env.step(action)
        seen.append((answer[0], answer[1], answer[2], answer[3], answer[4]["is_valid"]))
        if answer[2] or answer[3]:
            break
    return seen


@pytest.mark.parametrize(("id", "kwargs"), GAMES, ids=str)
def test_they_keep_what_every_environment_promises(id: str, kwargs: dict[str, Any]) -> None:
    assert [check for check in validate(id, kwargs, limit_s=120) if not check.passed] == []


@pytest.mark.parametrize(("id", "kwargs"), GAMES, ids=str)
def test_two_hundred_episodes_of_good_and_bad_actions_raise_nothing_and_outcomes_are_bounded(
    id: str, kwargs: dict[str, Any]
) -> None:
    env, rng = make_env(id, kwargs), random.Random(5)
    actions = [*world_of(env).sample_actions, *MALFORMED, "[3]", "[9]", "[A C]", "\\boxed{9}", "reveal 1 2"]
    for seed in range(200):
        env.reset(seed=seed, options={"split": "train" if seed % 2 else "eval"})
        outcome, is_over, turns = 0.0, False, 0
        while not is_over and turns < 60:
            answer = env.step(rng.choice(actions))
            outcome += _events(answer).get("outcome", 0.0)
            is_over, turns = answer[2] or answer[3], turns + 1
        assert -1.0 <= outcome <= 1.0
    env.close()


def test_an_answer_is_scored_by_its_dataset_and_the_datasets_own_is_right() -> None:
    env = make_env(QUESTION, {"dataset": "leg_counting"})
    world = world_of(env)
    for seed in range(10):
        env.reset(seed=seed)
        right = world.demonstrate(np.random.default_rng(0))
        assert right is not None
        assert (world.oracle(right), world.oracle("<answer>-1</answer>"), world.oracle("")) == (1.0, 0.0, -1.0)
        answer = env.step(f"I count {right}")
        assert (_events(answer), answer[2], answer[0][0]["content"]) == ({"outcome": 1.0}, True, "correct")
    env.reset(seed=3)
    bad = env.step("<answer> </answer>")
    assert (_events(bad), bad[2], bad[4]["is_valid"]) == ({"format": -1.0}, False, False)


def test_a_wrong_answer_may_be_corrected_within_try_again() -> None:
    env = make_env("turnwise/TryAgain-v0", {"id": QUESTION, "kwargs": {"dataset": "leg_counting"}, "attempts": 3})
    env.reset(seed=4)
    wrong = env.step("<answer>-1</answer>")
    assert (wrong[0][0]["content"], wrong[2]) == ("Incorrect. Please think again.", False)
    right = env.step(world_of(env).demonstrate(np.random.default_rng(0)))
    assert (_events(right)["outcome"], right[2]) == (0.5, True)


def test_held_out_questions_are_of_other_seeds_and_of_another_configuration_where_one_is_given() -> None:
    kwargs = {"dataset": "leg_counting", "eval_config": {"min_animals": 15, "max_animals": 15}}
    env = make_env(QUESTION, kwargs)
    train, held_out = (TaskSet(env_id=QUESTION, env_kwargs=kwargs, split=split) for split in ("train", "eval"))
    assert not {train.task(n).seed for n in range(50)} & {held_out.task(n).seed for n in range(50)}
    shown = {split: env.reset(seed=1, options={"split": split})[0][0]["content"] for split in ("train", "eval")}
    assert shown["eval"].count(",") >= 14 > shown["train"].count(",")


def test_gem_pays_for_the_right_number_and_says_what_it_asks_for() -> None:
    env = make_env(GEM, {"id": "game:GuessTheNumber-v0-easy", "kwargs": {"max_number": 2}})
    seen = [_episode(env, seed, ["\\boxed{1}", "\\boxed{2}"]) for seed in range(8)]
    assert {episode[-1][1] for episode in seen} == {1.0}
    assert {len(episode) for episode in seen} == {2, 3}
    wrong = next(episode for episode in seen if len(episode) == 3)
    assert wrong[1][0][0]["content"].endswith("is higher than 1.\nEnter your next guess.")


def test_textarena_tells_only_what_is_new_and_an_invalid_move_is_one() -> None:
    env = make_env(ARENA, {"id": "GuessTheNumber-v0", "kwargs": {"max_number": 2}})
    for seed in range(8):
        first, *steps = _episode(env, seed, ["[7]", "[1]", "2"])
        assert "between 1 and 2" in first[0]["content"]
        assert (steps[0][1], steps[0][4]) == (-1.0, False)
        assert not [text for text in ("between 1 and 2", "[7]") if text in steps[0][0][0]["content"]]
        assert steps[-1][1] == 1.0
    first, *steps = _episode(env, 0, ["[7]", "[7]", "[1]"])
    assert [step[2] for step in steps] == [False, True]


def test_a_game_that_gives_the_reason_in_the_rewards_place_is_lost_all_the_same() -> None:
    env = make_env(ARENA, {"id": "ThreeCardMonte-v0"})
    _, *steps = _episode(env, 0, ["no", "no"])
    assert [(step[1], step[2], step[4]) for step in steps] == [(-1.0, False, False), (-2.0, True, False)]
    assert "Bad action. Use `[k]`." in steps[-1][0][0]["content"]


@pytest.mark.parametrize(("id", "kwargs"), GAMES, ids=str)
def test_an_episode_depends_on_its_seed_alone_whoever_else_draws(id: str, kwargs: dict[str, Any]) -> None:
    env, other = make_env(id, kwargs), make_env(id, kwargs)
    actions = [world_of(env).sample_actions[n % 3] for n in range(8)]
    alone = _episode(env, 11, actions)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate()
    seen = [env.reset(seed=11)[0]]
    other.reset(seed=12)
    for action, wanted in zip(actions, alone[1:], strict=False):
        other.step(action)
        answer = env.step(action)
        seen.append((answer[0], answer[1], answer[2], answer[3], answer[4]["is_valid"]))
        assert seen[-1] == wanted
    assert seen == alone
    assert random.getstate() == before


def test_importing_gem_leaves_the_root_logger_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make_env(GEM, {}).close()
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    for name in [name for name in sys.modules if name.split(".")[0] == "gem"]:
        monkeypatch.delitem(sys.modules, name)
    load(GEM, "gem", "")
    assert (root.handlers, root.level) == ([], level)


def test_questions_that_differ_from_process_to_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(UserError, match="set PYTHONHASHSEED=0 for all processes"):
        make_env(QUESTION, {"dataset": "ransom_note"})
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    make_env(QUESTION, {"dataset": "ransom_note"}).close()


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        (
            QUESTION,
            {"dataset": "leg_countin"},
            "env.kwargs.dataset=leg_countin: no such name; did you mean leg_counting?",
        ),
        (QUESTION, {"dataset": 7}, "env.kwargs.dataset=7: no such name; one of "),
        (
            QUESTION,
            {"dataset": "puzzle24"},
            "evaluates the policy's answers as Python in this process; set unsafe_eval",
        ),
        (QUESTION, {"config": {"legs": 4}}, "leg_counting cannot be made with it (TypeError"),
        (
            QUESTION,
            {"config": {"min_animals": -2}},
            "env.kwargs.config={'min_animals': -2}: leg_counting cannot be made",
        ),
        (QUESTION, {"config": 7}, "env.kwargs.config=7: no arguments by name"),
        (GEM, {"id": "game:Sudoku-v0-eas"}, "did you mean game:Sudoku-v0-easy?"),
        (GEM, {"id": "rg:leg_counting"}, "take turnwise/ReasoningGym-v0 with dataset=leg_counting"),
        (
            GEM,
            {"kwargs": {"max_number": "x"}},
            "env.kwargs.kwargs={'max_number': 'x'}: game:GuessTheNumber-v0-easy cannot",
        ),
        (GEM, {"max_turns": 0}, "env.kwargs.max_turns=0: out of range"),
        (ARENA, {"id": "Sudoku-v7"}, "env.kwargs.id=Sudoku-v7: no such name; did you mean Sudoku-v0?"),
        (ARENA, {"id": "TicTacToe-v0"}, "env.kwargs.id=TicTacToe-v0: cannot be made (AssertionError: The number of"),
        (ARENA, {"id": "ScorableGames-v0"}, "env.kwargs.id=ScorableGames-v0: cannot be made (FileNotFoundError: Game"),
        pytest.param(
            ARENA,
            {"id": "Klondike-v0"},
            "env.kwargs.id=Klondike-v0: cannot be made (SyntaxError: ",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 can read that game"),
        ),
        (ARENA, {"kwargs": {"max_number": "x"}}, "GuessTheNumber-v0 cannot be made with it (TypeError"),
        (GEM, {"id": "math:GSM8K"}, "env.kwargs.id=math:GSM8K: cannot be made (ImportError"),
        (QUESTION, {"dataset": "zebra_puzzles"}, "env.kwargs.dataset=zebra_puzzles: cannot be made (AttributeError: "),
        (ARENA, {"kwargs": {"colour": 1}}, "GuessTheNumber-v0 cannot be made with it (TypeError"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(id, kwargs)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("id", "module", "install"),
    [
        (QUESTION, "reasoning_gym", "pip install reasoning-gym"),
        (GEM, "gem", "gem-llm"),
        (ARENA, "textarena", "textarena=="),
    ],
)
def test_a_missing_package_is_one_line(id: str, module: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=install):
        make_env(id, {})
