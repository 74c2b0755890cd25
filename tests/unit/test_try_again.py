"""`turnwise/TryAgain-v0`: UFO's numbers out of the environment itself, and what it leaves of the one within."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from golden_cases import expected, inputs

from turnwise import InvalidAction, ToolEnv, TurnEnv, UserError, tool
from turnwise.env.conformance import validate
from turnwise.tasks import TaskSet, make_env, world_of

TRY_AGAIN = "turnwise/TryAgain-v0"
QUIZ, STRICT, LIBRARY = "test/Quiz-v0", "test/Strict-v0", "test/Library-v0"


class QuizEnv(TurnEnv):
    """One number to be named; shows the right one when it is over, as a careless environment does."""

    sample_actions = ("1", "2", "no number")

    def __init__(
        self, right: str = "6", style: float = 0.0, outcome: float = 1.0, max_turns: int | None = None
    ) -> None:
        super().__init__()
        self.right, self.style, self.outcome, self.max_turns = right, style, outcome, max_turns
        self.seen: list[tuple[int, dict[str, Any]]] = []

    def begin(self, options: Any) -> str:
        self.seen.append((self.task_seed, dict(options)))
        return f"which number, task {self.task_seed}?"

    def act(self, action: Any) -> str:
        word = action["content"].strip()
        if not word.isdigit():
            raise InvalidAction("name a number")
        if word == "0":
            return "you may ask"
        if self.style:
            self.reward("style", self.style)
        self.reward("outcome", self.outcome * (word == self.right))
        self.finish()
        return f"it is {self.right}"

    def num_tasks(self, split: str) -> int | None:
        return 4 if split == "train" else 2

    def oracle(self, action: str) -> float | None:
        return float(action == self.right)

    def demonstrate(self, rng: Any) -> str | None:
        return self.right

    def state_key(self) -> str | None:
        return "asked"

    def gold(self) -> dict[str, Any]:
        return {"answer": self.right}


class StrictEnv(QuizEnv):
    """Ends at a refused action too."""

    def on_invalid(self, error: InvalidAction) -> None:
        self.finish()


class LibraryEnv(ToolEnv):
    """Pages worth something, then an answer."""

    sample_actions = ("open a", "answer b")

    def begin(self, options: Any) -> str:
        self.opened: set[str] = set()
        return "which page?"

    @tool
    def open(self, page: str) -> str:
        """Open a page."""
        if page not in self.opened:
            self.opened.add(page)
            self.reward("progress", 0.25)
        return f"page {page}"

    @tool
    def answer(self, text: str, note: str = "") -> str:
        """Answer."""
        self.reward("outcome", float(text == "right"))
        self.finish()
        return "over"

    def on_invalid(self, error: InvalidAction) -> None:
        self.reward("format", -1.0)


@pytest.fixture(autouse=True)
def worlds() -> Iterator[None]:
    for name, kind in {QUIZ: QuizEnv, STRICT: StrictEnv, LIBRARY: LibraryEnv}.items():
        gymnasium.register(name, entry_point=kind, disable_env_checker=True, order_enforce=False)
    yield
    for name in (QUIZ, STRICT, LIBRARY):
        del gymnasium.registry[name]


def made(id: str = QUIZ, /, **options: Any) -> gymnasium.Env[Any, Any]:
    return make_env(TRY_AGAIN, {"id": id, **options})


def totals(answers: list[tuple[Any, ...]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for event in (event for answer in answers for event in answer[4]["events"]):
        found[event.channel] = found.get(event.channel, 0.0) + event.value
    return found


def play(env: gymnasium.Env[Any, Any], actions: list[str], seed: int = 3) -> list[tuple[Any, ...]]:
    env.reset(seed=seed, options={"split": "train", "episode_seed": 5})
    return [env.step(action) for action in actions]


@pytest.mark.parametrize("case", range(3))
def test_the_goldens_come_out_of_the_environment_itself(case: int) -> None:
    given, wanted = inputs("ufo"), expected("ufo")["result"][case]
    answers, solved_at = given["answers"][case], given["correct_at_attempt"][case]
    right = answers[solved_at - 1] if solved_at else "no such answer"
    env = made(kwargs={"right": right}, attempts=given["max_turns"], decay=given["gamma"], repetition=given["lam"])
    steps = play(env, answers)
    assert [step[2] for step in steps] == [False] * (len(answers) - 1) + [True]
    found = totals(steps)
    assert found["outcome"] == pytest.approx(wanted["success_reward"])
    assert found["repetition"] == pytest.approx(-wanted["penalty"])
    assert sum(step[1] for step in steps) == pytest.approx(wanted["total"])


def test_only_the_unary_feedback_enters_the_context_and_the_same_task_is_asked_again() -> None:
    env = made(attempts=3)
    first, _ = env.reset(seed=3, options={"split": "train", "episode_seed": 5})
    wrong, right = env.step("1"), env.step("6")
    assert first[0]["content"] == "which number, task 3?"
    assert wrong[0] == [{"role": "user", "content": "Incorrect. Please think again."}]
    assert right[0][0]["content"] == "it is 6"
    assert world_of(env)._world.seen == [(3, {"split": "train", "episode_seed": 5})] * 2  # type: ignore[attr-defined]


def test_the_last_wrong_answer_ends_the_episode_and_is_not_called_right() -> None:
    steps = play(made(attempts=2, text="No."), ["1", "2"])
    assert steps[-1][2:4] == (True, False)
    assert [step[0][0]["content"] for step in steps] == ["No.", "No."]
    assert totals(steps) == {"outcome": 0.0, "repetition": 0.0}


def test_a_refused_action_costs_a_tenth_and_is_no_attempt() -> None:
    steps = play(made(attempts=2), ["what", "", "1", "x", "6"])
    assert [step[4]["is_valid"] for step in steps] == [False, False, True, False, True]
    assert steps[0][0][0]["content"] == "error: name a number"
    assert totals(steps) == {"format": pytest.approx(-0.3), "outcome": 0.5, "repetition": 0.0}


def test_an_attempt_that_a_refused_action_ends_is_one_and_no_answer() -> None:
    steps = play(made(STRICT, attempts=3), ["what", "1", "1"])
    assert [step[2] for step in steps] == [False, False, True]
    assert totals(steps) == {"format": -0.1, "outcome": 0.0, "repetition": -0.25}


def test_what_is_no_message_is_refused_too_and_the_price_of_the_environment_within_stays_its_own() -> None:
    assert totals(play(made(LIBRARY), ["open", "answer right"])) == {"format": -1.0, "outcome": 1.0, "repetition": 0.0}
    env = made(LIBRARY)
    env.reset(seed=1)
    answer = env.step(None)
    assert (answer[4]["is_valid"], answer[1]) == (False, -0.1)


def test_what_an_attempt_earns_counts_only_beyond_the_best_one_before_and_costs_count_each_time() -> None:
    again = ["open a", "open b", "answer x", "open c", "open d", "open e", "nonsense", "answer y", "nonsense"]
    steps = play(made(LIBRARY), [*again, "open f", "answer right"])
    assert [step[1] for step in steps] == [0.25, 0.25, 0.0, 0.0, 0.0, 0.25, -1.0, 0.0, -1.0, 0.0, 0.25]
    assert totals(steps) == {"progress": 0.75, "outcome": 0.25, "format": -2.0, "repetition": 0.0}
    assert totals(play(made(kwargs={"style": -0.5}), ["1", "2", "6"]))["style"] == -1.5
    assert totals(play(made(kwargs={"style": 0.5}), ["1", "2", "6"]))["style"] == 0.5


def test_an_answer_of_a_tool_is_its_first_text() -> None:
    steps = play(made(LIBRARY, attempts=2), ["answer  Lima | one", "answer lima | two"])
    assert totals(steps)["repetition"] == -0.25
    assert steps[0][4]["call"] == {"name": "answer", "arguments": {"text": "Lima", "note": "one"}}
    assert steps[0][0] == [{"role": "tool", "content": "Incorrect. Please think again."}]


def test_where_the_environment_within_cuts_off_the_episode_is_truncated_and_repetitions_cost() -> None:
    steps = play(made(kwargs={"max_turns": 2}), ["1", "1", "0", "0"])
    assert [step[2:4] for step in steps] == [(False, False)] * 3 + [(False, True)]
    assert totals(steps) == {"outcome": 0.0, "repetition": -0.25}


def test_an_outcome_of_half_is_wrong_as_in_an_evaluation() -> None:
    assert totals(play(made(kwargs={"outcome": 0.5}, attempts=1), ["6"]))["outcome"] == 0.0
    assert totals(play(made(kwargs={"outcome": 0.6}, attempts=1), ["6"]))["outcome"] == 1.0


def test_the_state_knows_the_answers_given() -> None:
    env = made()
    keys = [env.reset(seed=1)[1]["state_key"], *(env.step(word)[4]["state_key"] for word in ("1", "2", "2"))]
    assert keys[0] == "asked"
    assert len(set(keys)) == 4
    swapped = [env.reset(seed=1), env.step("2"), env.step("1")]
    assert swapped[-1][4]["state_key"] == keys[2]


def test_what_else_the_environment_within_offers_passes_through() -> None:
    env = made(LIBRARY)
    env.reset(seed=1)
    assert [schema["function"]["name"] for schema in world_of(env).tools] == ["open", "answer"]
    quiz = made()
    _, info = quiz.reset(seed=1)
    world = world_of(quiz)
    assert info["gold"] == {"answer": "6"}
    assert (world.oracle("6"), world.oracle("1"), world.demonstrate(None)) == (1.0, 0.0, "6")  # type: ignore[arg-type]
    assert TaskSet.of(TRY_AGAIN, {"id": QUIZ}, "train", 0).num_tasks == 4
    assert world.sample_actions == QuizEnv.sample_actions


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"kwargs": {"hops": [1, 2]}}, {"id": QUIZ}, {"id": LIBRARY}, {"id": "turnwise/GymText-v0"}, {"id": TRY_AGAIN}],
    ids=str,
)
def test_it_keeps_what_every_environment_promises(kwargs: dict[str, Any]) -> None:
    assert [check for check in validate(TRY_AGAIN, kwargs) if not check.passed] == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"attempts": 0}, "env.kwargs.attempts=0: no number of attempts; give a whole number from 1 to 1000"),
        ({"attempts": True}, "env.kwargs.attempts=True: no number of attempts"),
        ({"decay": 0}, "env.kwargs.decay=0: out of range; give a number above 0 to 1"),
        ({"decay": 1.5}, "env.kwargs.decay=1.5: out of range"),
        ({"decay": "half"}, "env.kwargs.decay=half: out of range"),
        ({"repetition": -1}, "env.kwargs.repetition=-1: out of range; give a number from 0"),
        ({"repetition": float("nan")}, "env.kwargs.repetition=nan: out of range"),
        ({"text": " "}, "env.kwargs.text=: nothing to be said"),
        ({"id": "turnwise/Serch-v0"}, "env.kwargs.id=turnwise/Serch-v0: no such environment"),
        ({"id": 7}, "env.kwargs.id=7: no environment's id"),
        ({"id": "CartPole-v1"}, "env.kwargs.id=CartPole-v1: not an environment of messages"),
        ({"kwargs": 7}, "env.kwargs.kwargs=7: no arguments by name"),
        ({"kwargs": {"hops": 9}}, "env.kwargs.kwargs.hops=9: not hops of a question"),
        ({"kwargs": {"hop": 2}}, "env.kwargs.kwargs.hop=2: turnwise/Search-v0 takes no such argument"),
        ({"tries": 2}, "env.kwargs.tries=2: turnwise/TryAgain-v0 takes no such argument"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(TRY_AGAIN, kwargs)
    shown = str(raised.value)
    assert message in shown
    assert "\n" not in shown
