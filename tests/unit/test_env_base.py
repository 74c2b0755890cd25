import time
from collections.abc import Mapping
from typing import Any

import pytest

from turnwise import InvalidAction, Message, TurnEnv
from turnwise.env.base import MAX_TEXT, MessageSpace, as_messages
from turnwise.records import Event


class CountEnv(TurnEnv):
    """Counts; "end" ends, "cut" truncates, "bad" is invalid, "two" pays on two channels."""

    max_turns = 5

    def begin(self, options: Mapping[str, Any]) -> str:
        self.drawn = int(self.np_random.integers(1000))
        return f"begin {options.get('task_id', '-')} {self.drawn}"

    def act(self, action: Message) -> Any:
        word = action["content"]
        if word == "bad":
            raise InvalidAction("bad it is")
        if word == "two":
            self.reward("outcome", 1.0)
            self.reward("format", -0.25)
        if word == "end":
            self.finish()
        if word == "cut":
            self.truncate()
        return {"none": None, "list": [{"role": "tool", "content": "a"}, {"role": "user", "content": "b"}]}.get(
            word, word
        )

    def on_invalid(self, error: InvalidAction) -> None:
        self.reward("format", -1.0)

    def gold(self) -> dict[str, Any]:
        return {"drawn": self.drawn}


@pytest.fixture
def env() -> CountEnv:
    env = CountEnv()
    env.reset(seed=1)
    return env


def test_reset_gives_messages_and_what_scorers_may_know() -> None:
    messages, info = CountEnv().reset(seed=1, options={"task_id": "7"})
    assert messages == [{"role": "user", "content": f"begin 7 {info['gold']['drawn']}"}]
    assert info["events"] == ()
    assert info["is_valid"] is True
    assert info["state_key"] is None


def test_the_gold_is_in_no_step(env: CountEnv) -> None:
    assert "gold" not in env.step("one")[4]


def test_the_task_seed_is_what_reset_was_given_or_a_drawn_one(env: CountEnv) -> None:
    assert env.task_seed == 1
    env.reset()
    drawn = env.task_seed
    env.reset(seed=1)
    env.reset()
    assert env.task_seed == drawn != 1


def test_the_reward_is_the_sum_of_the_events_of_this_turn(env: CountEnv) -> None:
    _, reward, _, _, info = env.step("two")
    assert reward == 0.75
    assert info["events"] == (Event(channel="outcome", value=1.0), Event(channel="format", value=-0.25))
    assert env.step("one")[1] == 0.0


def test_an_invalid_action_is_answered_counted_and_reported_to_the_hook(env: CountEnv) -> None:
    messages, reward, terminated, truncated, info = env.step("bad")
    assert messages == [{"role": "user", "content": "error: bad it is"}]
    assert (reward, terminated, truncated, info["is_valid"], env.num_turns) == (-1.0, False, False, False, 1)


@pytest.mark.parametrize(
    "action", [None, 7, [], {"role": "assistant"}, {"role": 1, "content": "x"}, "\ud800", "x" * (MAX_TEXT + 1)]
)
def test_what_is_no_action_is_invalid(env: CountEnv, action: Any) -> None:
    assert env.step(action)[4]["is_valid"] is False


@pytest.mark.parametrize(("word", "flags"), [("end", (True, False)), ("cut", (False, True))])
def test_an_end_keeps_its_flags_after_the_end(env: CountEnv, word: str, flags: tuple[bool, bool]) -> None:
    assert env.step(word)[2:4] == flags
    messages, reward, *after, info = env.step("two")
    assert (messages[0]["content"], reward, tuple(after)) == ("error: the episode is over", 0.0, flags)
    assert info["events"] == ()
    assert info["is_valid"] is False


def test_the_last_turn_truncates_unless_it_ends(env: CountEnv) -> None:
    assert [env.step("one")[2:4] for _ in range(5)][-2:] == [(False, False), (False, True)]
    env.reset(seed=1)
    assert [env.step(word)[2:4] for word in ("a", "b", "c", "d", "end")][-1] == (True, False)


def test_a_step_before_the_first_reset_is_answered() -> None:
    messages, reward, terminated, _, info = CountEnv().step("one")
    assert (messages[0]["content"], reward, terminated) == ("error: the episode is over", 0.0, True)
    assert info["is_valid"] is False


def test_an_answer_may_be_several_messages_and_must_be_messages(env: CountEnv) -> None:
    assert [message["role"] for message in env.step("list")[0]] == ["tool", "user"]
    with pytest.raises(TypeError, match="got NoneType"):
        env.step("none")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_must_be_finite(env: CountEnv, value: float) -> None:
    with pytest.raises(ValueError, match="channel 'outcome'"):
        env.reward("outcome", value)


def test_spaces_hold_texts_and_messages() -> None:
    actions, observations = MessageSpace(is_list=False), MessageSpace(is_list=True)
    message = {"role": "user", "content": "hi"}
    assert "hi" in actions
    assert message in actions
    assert [message] not in actions
    assert "hi" in observations
    assert [message] in observations
    assert message not in observations
    assert "\ud800" not in actions
    assert "né \U0001f600" in actions
    assert actions.contains(actions.sample())
    assert observations.contains(observations.sample())
    assert actions == MessageSpace(is_list=False) != observations


def test_as_messages_copies() -> None:
    message = {"role": "user", "content": "hi"}
    (copied,) = as_messages(message, role="tool")
    assert copied == message
    assert copied is not message


def test_render_shows_the_last_observation() -> None:
    env = CountEnv(render_mode="ansi")
    env.reset(seed=1)
    env.step("one")
    assert env.render() == "user: one"
    assert CountEnv().render() is None


def test_a_step_costs_microseconds(env: CountEnv) -> None:
    env.max_turns = None
    started = time.perf_counter()
    for _ in range(5000):
        env.step("one")
    assert (time.perf_counter() - started) / 5000 < 100e-6  # measured: 5 to 10; the machine may be busy
