"""Classes for TRL and OpenEnv servers: their tools, rewards and failures as ours."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapter_pieces
import pytest
from openenv.core import Action, Environment, Observation, State
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
)

from turnwise import UserError
from turnwise.env.conformance import MALFORMED, validate
from turnwise.errors import EnvError, InfraError
from turnwise.tasks import make_env, world_of

TRL, OPEN = "turnwise/TRL-v0", "turnwise/OpenEnv-v0"


class Said(Action):
    text: str


class Named(Action):
    tool_name: str


class Moved(Action):
    steps: int
    way: str = "on"


class Place(Observation):
    place: str = ""


class Walk(Environment):
    """Walk to place 3; by words, by numbers, or by tools."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, episode_id: str | None = None, **given: Any) -> Place:
        self.at, self.steps = (seed or 0) % 2, 0
        return Place(place=f"at {self.at}")

    def step(self, action: Any, timeout_s: float | None = None, **given: Any) -> Observation:
        self.steps += 1
        if isinstance(action, ListToolsAction):
            shape = {"type": "object", "properties": {"steps": {"type": "integer"}}, "required": ["steps"]}
            return ListToolsObservation(tools=[Tool(name="walk", description="Walk.", input_schema=shape)])
        if isinstance(action, CallToolAction):
            self.at += action.arguments["steps"]
            return CallToolObservation(tool_name="walk", result=f"at {self.at}", done=self.at == 3, reward=self.at == 3)
        words = str(action.tool_name if isinstance(action, Named) else getattr(action, "text", ""))
        self.at += action.steps if isinstance(action, Moved) else len(words.split())
        if self.at > 9:
            raise ValueError("off the map")
        return Place(place=f"at {self.at}", done=self.at >= 3, reward=3.0 * (self.at == 3))

    @property
    def state(self) -> State:
        return State(step_count=self.steps)


class Lost(Walk):
    """A place before any reset."""

    at, steps = 2, 0


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with (
        adapter_pieces.serving(Walk, Said, Place) as words,
        adapter_pieces.serving(Walk, Moved, Place) as numbers,
        adapter_pieces.serving(Walk, CallToolAction, Observation) as tools,
    ):
        yield {"words": words[0], "numbers": numbers[0], "tools": tools[0]}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    written = [{"prompt": f"Task {n}.", "count": n, "split": "eval" if n == 4 else "train"} for n in (1, 2, 3, 4)]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    return str(path)


def _lights(rows: str, **kwargs: Any) -> Any:
    return make_env(TRL, {"factory": "adapter_pieces:Lights", "tasks": rows, **kwargs})


def _events(answer: tuple[Any, ...]) -> dict[str, float]:
    return {event.channel: event.value for event in answer[4]["events"]}


def _said(answer: tuple[Any, ...]) -> tuple[str, str]:
    return answer[0][0]["role"], answer[0][0]["content"]


def _call(name: str, /, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def _play_on(env: Any, actions: list[Any]) -> None:
    rng = random.Random(3)
    for seed in range(200):
        env.reset(seed=seed)
        outcome, turns, is_over = 0.0, 0, False
        while not is_over and turns < 12:
            answer = env.step(rng.choice([*world_of(env).sample_actions, *MALFORMED, *actions]))
            outcome += _events(answer).get("outcome", 0.0)
            is_over, turns = answer[2] or answer[3], turns + 1
        assert -1.0 <= outcome <= 1.0


def test_a_class_for_trl_has_its_tools_rows_and_reward(rows: str) -> None:
    env = _lights(rows)
    assert [world_of(env).num_tasks(split) for split in ("train", "eval")] == [3, 1]
    messages, info = env.reset(seed=1, options={"split": "train"})
    assert messages[0]["content"].startswith("Task 2. There are 2 lights, room ")
    assert info["gold"] == {"count": 2}
    from transformers.utils import get_json_schema

    functions = {schema["function"]["name"]: schema["function"] for schema in world_of(env).tools}
    wanted = get_json_schema(adapter_pieces.Lights().switch)["function"]
    assert {key: functions["switch"][key] for key in ("name", "description", "parameters")} == {
        key: wanted[key] for key in ("name", "description", "parameters")
    }
    assert _said(env.step(_call("switch", light=0))) == ("tool", "1 on")
    assert '"on": 1' in _said(env.step("look"))[1]
    assert _said(env.step(_call("switch", light=7))) == ("tool", "error: list assignment index out of range")
    assert _events(env.step(_call("switch", light="x"))) == {"format": -1.0}
    last = env.step("done")
    assert (_events(last), last[2]) == ({"outcome": 0.5}, True)


def test_a_reward_function_of_trl_sees_prompt_completion_environment_and_columns(rows: str) -> None:
    env = _lights(rows, reward="adapter_pieces:by_words")
    for words, worth in (("1 lights", 1.0), ("2 lights", 0.0)):
        env.reset(seed=0, options={"split": "train"})
        assert _events(env.step(words)) == {"outcome": worth}


def test_what_was_done_for_trl_counts_when_the_turns_are_used_up(rows: str) -> None:
    env = _lights(rows, max_turns=2)
    for last in (_call("switch", light=1), _call("switch", light="x")):
        env.reset(seed=1, options={"split": "train"})
        env.step(_call("switch", light=0))
        answer = env.step(last)
        assert (answer[2], answer[3]) == (False, True)
        assert _events(answer)["outcome"] == (1.0 if answer[4]["is_valid"] else 0.5)


def test_no_reward_from_a_class_for_trl_is_a_failure_and_not_zero(rows: str) -> None:
    env = make_env(TRL, {"factory": "adapter_pieces:Undecided", "tasks": rows})
    env.reset(seed=1)
    with pytest.raises(EnvError, match="is None"):
        env.step("done")


def test_a_class_for_trl_draws_by_the_tasks_seed(rows: str) -> None:
    env, other = _lights(rows), _lights(rows)
    first = [env.reset(seed=5), env.step("look")[0]]
    other.reset(seed=9)
    again = [env.reset(seed=5), other.step("look") and env.step("look")[0]]
    assert again == first
    assert env.reset(seed=8)[0] != first[0][0]


def test_a_served_environment_of_text_is_played_by_words(servers: dict[str, str]) -> None:
    env = make_env(OPEN, {"url": servers["words"]})
    assert env.reset(seed=1)[0][0]["content"] == "at 1"
    assert _said(env.step("one")) == ("user", "at 2")
    last = env.step("two")
    assert (_said(last)[1], _events(last), last[2]) == ("at 3", {"outcome": 1.0}, True)
    env.close()
    assert env.reset(seed=0)[0][0]["content"] == "at 0"
    env.close()


def test_an_action_that_only_names_a_tool_is_a_text() -> None:
    with adapter_pieces.serving(Walk, Named, Place) as (url, _):
        env = make_env(OPEN, {"url": url})
        assert env.reset(seed=1)[0][0]["content"] == "at 1"
        assert (world_of(env).tools, _said(env.step("one"))) == ([], ("user", "at 2"))
        env.close()


def test_a_served_environment_of_fields_is_a_tool_and_what_it_raises_is_its_failure(servers: dict[str, str]) -> None:
    env = make_env(OPEN, {"url": servers["numbers"]})
    env.reset(seed=0)
    assert [schema["function"]["name"] for schema in world_of(env).tools] == ["step"]
    assert _said(env.step("hello"))[1] == "error: expected a call of step"
    assert _said(env.step(_call("step", steps="far")))[1].startswith("error: step steps: 'far' is not of type")
    assert _said(env.step(_call("step", steps=2, way="on"))) == ("tool", "at 2")
    with pytest.raises(Exception, match="off the map"):
        env.step(_call("step", steps=20))
    assert env.reset(seed=1)[0][0]["content"] == "at 1"
    env.close()


def test_a_server_of_tools_offers_them(servers: dict[str, str]) -> None:
    env = make_env(OPEN, {"url": servers["tools"]})
    env.reset(seed=1)
    assert [schema["function"]["name"] for schema in world_of(env).tools] == ["walk"]
    last = env.step("walk 2")
    assert (last[2], _events(last), last[4]["call"]) == (
        True,
        {"outcome": 1.0},
        {"name": "walk", "arguments": {"steps": 2}},
    )
    env.close()


def test_a_server_that_is_gone_is_a_failure_of_the_infrastructure() -> None:
    with adapter_pieces.serving(Walk, Said, Place) as (url, end):
        env = make_env(OPEN, {"url": url, "timeout_s": 5})
        env.reset(seed=1)
        end()
        with pytest.raises(InfraError, match="is gone"):
            env.step("one")
        with pytest.raises(InfraError, match="is gone"):
            env.reset(seed=1)
        env.close()


def test_a_server_that_was_started_again_in_the_middle_of_an_episode_is_no_other_episode() -> None:
    with adapter_pieces.serving(Walk, Said, Place) as (url, end):
        env = make_env(OPEN, {"url": url, "timeout_s": 5})
        env.reset(seed=1)
        end()
    with adapter_pieces.serving(Lost, Said, Place, port=int(url.rpartition(":")[2])):
        with pytest.raises(InfraError, match="was lost"):
            env.step("one")
        assert env.reset(seed=1)[0][0]["content"] == "at 1"
        assert _said(env.step("one")) == ("user", "at 2")
        env.close()


def test_a_full_server_is_a_failure_of_the_infrastructure() -> None:
    with adapter_pieces.serving(Walk, Said, Place, sessions=1) as (url, _):
        first, second = make_env(OPEN, {"url": url}), make_env(OPEN, {"url": url})
        first.reset(seed=1)
        with pytest.raises(InfraError, match="capacity"):
            second.reset(seed=1)
        first.close()
        second.close()


@pytest.mark.parametrize("id", [TRL, "words", "numbers", "tools"])
def test_they_keep_what_every_environment_promises_and_raise_nothing(
    id: str, rows: str, servers: dict[str, str]
) -> None:
    kwargs = {TRL: {"factory": "adapter_pieces:Lights", "tasks": rows}}
    given = kwargs.get(id, {"url": servers.get(id)})
    env_id = OPEN if id in servers else id
    assert [check for check in validate(env_id, given, limit_s=60) if not check.passed] == []
    env = make_env(env_id, given)
    _play_on(env, [_call("step", steps=1), _call("switch", light=0), _call("walk", steps=1), _call("add", a=1, b=2)])
    env.close()


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        (TRL, {}, "env.kwargs.factory=None: no name of anything; write factory=module:name"),
        (TRL, {"factory": "adapter_pieces:Ligths"}, "env.kwargs.factory=adapter_pieces:Ligths: module"),
        (
            TRL,
            {"factory": "adapter_pieces:Unpaid"},
            "env.kwargs.factory=adapter_pieces:Unpaid: has no method get_reward",
        ),
        (TRL, {"factory": "adapter_pieces:Undescribed"}, "has no docstring"),
        (TRL, {"factory": "adapter_pieces:Lights"}, "env.kwargs.tasks=None: no file of rows"),
        (OPEN, {"url": "ftp://x"}, "env.kwargs.url=ftp://x: no address"),
        (OPEN, {"url": "http://127.0.0.1:9"}, "no OpenEnv server answers there"),
        (OPEN, {"url": "http://127.0.0.1:9", "reset": 3}, "env.kwargs.reset=3: no arguments by name"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(id, kwargs)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty task set"),
        ('{"prompt": 7}', '"prompt" is neither'),
        ('{"prompt": "a", "split": "x"}', '"split" must'),
        ('{"prompt": "a"}\n{"prompt": "a", "split": "eval"}', ":2: the same row stands in both splits"),
    ],
)
def test_a_bad_row_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        _lights(str(tmp_path / "rows.jsonl"))


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openenv.core.generic_client", None)
    with pytest.raises(UserError, match="pip install"):
        make_env(OPEN, {"url": "http://127.0.0.1:9"})
