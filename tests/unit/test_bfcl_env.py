"""`turnwise/BFCL-v0`: the benchmark's tasks, its services without what they share, and its verdicts in our words."""

from __future__ import annotations

import decimal
import importlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mpmath
import numpy as np
import pytest

from turnwise import UserError
from turnwise.demonstrations import record_one
from turnwise.env.calls import ToolCall, spell_hermes
from turnwise.env.conformance import MALFORMED, validate
from turnwise.records import Task
from turnwise.tasks import TaskSet, make_env, world_of
from turnwise_envs.bfcl import services, wheel
from turnwise_envs.bfcl.env import BfclEnv
from turnwise_envs.bfcl.services import Services
from turnwise_envs.bfcl.wheel import CATEGORIES, Entry, load_entries

BFCL = "turnwise/BFCL-v0"
HALF = {"role": "assistant", "content": "", "tool_calls": [{"name": "echo", "arguments": {"content": "\ud800"}}]}
ENTRIES = {entry.id: entry for entry in load_entries()}
PLAYABLE = [entry for entry in load_entries() if entry.problem is None]


def _make(**kwargs: Any) -> BfclEnv:
    env = world_of(make_env(BFCL, {"mistakes": 0, **kwargs}))
    assert isinstance(env, BfclEnv)
    return env


def _start(env: BfclEnv, id: str) -> str:
    """Reset to the task of that name and return what the user says."""
    entry = ENTRIES[f"multi_turn_{id}"]
    place = [other for other in PLAYABLE if other.split == entry.split].index(entry)
    messages, _ = env.reset(seed=place, options={"split": entry.split})
    return str(messages[0]["content"])


def _of(function: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(name=function, arguments=arguments)


def _call(function: str, /, **arguments: Any) -> str:
    return spell_hermes(_of(function, **arguments))


def _events(answer: tuple[Any, ...]) -> dict[str, float]:
    return {event.channel: event.value for event in answer[4]["events"]}


def _said(answer: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in answer[0]]


def _play(env: BfclEnv, actions: Iterable[str]) -> dict[str, list[float]]:
    """Carry out actions and return all events by channel."""
    events: dict[str, list[float]] = {}
    for action in actions:
        for channel, value in _events(env.step(action)).items():
            events.setdefault(channel, []).append(value)
    return events


def _truth(entry: Entry) -> list[str]:
    """Return the actions of the ground truth, a word after each request."""
    return [action for request in entry.requests for action in (*map(spell_hermes, request.calls), "That is done.")]


def test_it_keeps_the_contract() -> None:
    assert [check for check in validate(BFCL) if not check.passed] == []


def test_the_ground_truth_of_every_supported_task_gets_full_reward() -> None:
    env = _make()
    for split in ("train", "eval"):
        for seed in range(env.num_tasks(split)):
            env.reset(seed=seed, options={"split": split})
            gold = env.gold()
            assert gold is not None
            entry = ENTRIES[gold["id"]]
            events = _play(env, _truth(entry))
            assert events.pop("outcome") == [1.0], entry.id
            assert sum(map(len, events.values())) == sum(1 + bool(request.calls) for request in entry.requests)
            assert {value for values in events.values() for value in values} == {1.0}, entry.id


def test_795_of_800_tasks_are_supported_and_the_others_say_why_not() -> None:
    assert Counter(entry.category for entry in ENTRIES.values()) == dict.fromkeys(CATEGORIES, 200)
    assert {entry.id.removeprefix("multi_turn_"): entry.problem for entry in ENTRIES.values() if entry.problem} == {
        "base_173": "request 4: close_ticket needs ticket_id to be a whole number",
        "long_context_173": "request 4: close_ticket needs ticket_id to be a whole number",
        "miss_func_173": "request 5: close_ticket needs ticket_id to be a whole number",
        "miss_param_173": "request 5: close_ticket needs ticket_id to be a whole number",
        "miss_func_49": "request 2: tail is called before it is offered",
    }


def test_no_variant_of_a_held_out_task_is_trained_on() -> None:
    numbers = {split: {entry.number for entry in PLAYABLE if entry.split == split} for split in ("train", "eval")}
    assert (len(numbers["train"]), len(numbers["eval"])) == (159, 40)
    assert not numbers["train"] & numbers["eval"]
    env = _make(categories="miss_func")
    assert (env.num_tasks("train"), env.num_tasks("eval"), env.num_tasks("other")) == (159, 39, 0)
    assert TaskSet.of(BFCL, {}, "train", 0).num_tasks == 636


def _changed(entry: Entry, rng: np.random.Generator) -> list[list[ToolCall]]:
    """Return the calls of a ground truth with calls dropped, doubled, moved and changed."""
    requests = [list(request.calls) for request in entry.requests]
    for calls in requests:
        kind = int(rng.integers(12))
        place = int(rng.integers(len(calls))) if calls else 0
        if kind == 0:
            calls.insert(place, entry.calls[int(rng.integers(len(entry.calls)))])
        elif kind == 1 and calls:
            calls.pop(place)
        elif kind == 2:
            calls.reverse()
        elif kind == 3 and calls:
            texts = {key: "other" for key, value in calls[place].arguments.items() if isinstance(value, str)}
            calls[place] = ToolCall(name=calls[place].name, arguments={**calls[place].arguments, **texts})
    return requests


def test_the_outcome_is_the_verdict_of_the_benchmarks_own_checker() -> None:
    checker = importlib.import_module("bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker").multi_turn_checker
    folder, verdicts = wheel._folder() / "data", Counter[bool]()
    rng, env = np.random.default_rng(5), _make()
    for category in CATEGORIES:
        name = f"BFCL_v4_multi_turn_{category}.json"
        answers = wheel._lines(folder / "possible_answer" / name)
        for line, answer in list(zip(wheel._lines(folder / name), answers, strict=True))[::5]:
            _start(env, line["id"].removeprefix("multi_turn_"))
            made, outcome = [], -1.0
            for calls in _changed(ENTRIES[line["id"]], rng):
                valid = [call for call in calls if env.step(spell_hermes(call))[4]["is_valid"]]
                made.append([[f"{call.name}(**{dict(call.arguments)!r})"] for call in valid])
                outcome = _events(env.step("done")).get("outcome", -1.0)
            verdict = checker(made, answer["ground_truth"], line, category, "changed")["valid"]
            assert outcome == float(verdict), line["id"]
            verdicts[verdict] += 1
    assert min(verdicts.values()) > 30


def test_words_end_a_request_and_the_next_one_comes() -> None:
    env = _make()
    assert _start(env, "base_3").startswith("As part of my latest photography project")
    answer = env.step(_call("find", path=".", name="test"))
    assert answer[0][0]["role"] == "tool"
    assert json.loads(answer[0][0]["content"])["matches"][0] == "./projects/photography/test_image1.jpg"
    assert answer[4]["call"] == {"name": "find", "arguments": {"path": ".", "name": "test"}}
    answer = env.step("I found them.")
    assert _events(answer) == {"state": 1.0, "responses": 1.0}
    assert _said(answer)[0][1].startswith("After identifying them")
    answer = env.step("I would rather not.")
    assert _events(answer) == {"state": 0.0, "responses": 0.0, "outcome": 0.0}
    assert answer[2]
    assert env.guide() == "request 2 went wrong or was not finished; it needs cd, cd, cp, cp"


def test_a_withheld_function_is_unknown_until_the_user_offers_it() -> None:
    env = _make()
    _start(env, "miss_func_0")
    env.step(_call("mkdir", dir_name="temp"))
    for action in ("sort final_report.pdf", _call("sort", file_name="final_report.pdf")):
        answer = env.step(action)
        assert _said(answer)[0][1].startswith("error: unknown tool sort; expected one of ")
        assert _events(answer) == {"format": -1.0}
    shown = [schema["function"]["name"] for schema in env.tools]
    assert "sort" not in shown
    env.step("done")
    env.step("done")
    answer = env.step("There is no function for that.")
    assert _events(answer)["abstain"] == 1.0
    offered, sentence = _said(answer)[0][1].split("\n")
    assert [schema["function"]["name"] for schema in json.loads(offered)] == ["sort"]
    assert sentence == "I have updated some more functions you can choose from. What about now?"
    assert [schema["function"]["name"] for schema in env.tools] == [*shown, "sort"]
    assert env.step(_call("sort", file_name="nothing"))[4]["is_valid"]


def test_a_demonstration_shows_the_functions_of_its_start() -> None:
    entry = ENTRIES["multi_turn_miss_func_0"]
    env = _make()
    place = [other for other in PLAYABLE if other.split == entry.split].index(entry)
    found = record_one(env, Task(env_id=BFCL, task_id="0", seed=place, split=entry.split), np.random.default_rng(0))
    assert found.outcome == 1.0
    assert "sort" not in [schema["function"]["name"] for schema in found.tools]


def test_calls_where_words_are_the_answer_cost_abstain_and_not_the_outcome() -> None:
    entry = ENTRIES["multi_turn_miss_param_3"]
    env = _make()
    _start(env, "miss_param_3")
    place = [bool(request.calls) for request in entry.requests].index(False)
    actions = _truth(entry)
    index = sum(len(request.calls) + 1 for request in entry.requests[:place])
    events = _play(env, [*actions[:index], _call("pwd"), *actions[index:]])
    assert (events["abstain"], events["outcome"]) == ([0.0], [1.0])


def test_after_max_calls_the_next_request_comes_by_itself() -> None:
    env = _make(max_calls=2, max_turns=5)
    _start(env, "base_3")
    env.step(_call("pwd"))
    answer = env.step(_call("pwd"))
    assert [role for role, _ in _said(answer)] == ["tool", "user"]
    assert _events(answer) == {"state": 1.0, "responses": 0.0}
    for _ in range(2):
        assert not env.step("")[3]
    assert env.step("")[3]


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("", "call a function, or answer in words"),
        (_call("tail"), "tail needs file_name"),
        (_call("tail", file_name="a", lines=2.5), "tail needs lines to be a whole number"),
        (_call("tail", file_name="a", lines=10**40), "tail needs lines to be a whole number"),
        (_call("tail", file_name=True), "tail needs file_name to be text"),
        (_call("tail", file_name="a", bytes=1), "tail has no argument bytes; expected file_name, lines"),
        (_call("mean", numbers=[1, "2"]), "mean needs each item of numbers to be a number"),
        (_call("mean", numbers=3), "mean needs numbers to be a list"),
        (_call("add", a=float("inf"), b=1), "add needs a to be a number"),
        (_call("square_root", number=2, precision=10**7), "square_root needs precision to be at most 100"),
        (_call("echo", content=None), "echo needs content to be text"),
        (HALF, "echo needs content to be text"),
        (_call("_load_scenario", scenario={}), "unknown tool _load_scenario; expected one of "),
        (_call("close_ticket", ticket_id=1), "unknown tool close_ticket; expected one of "),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_would(action: Any, error: str) -> None:
    env = _make()
    _start(env, "base_15")
    answer = env.step(action)
    assert _said(answer)[0][1].startswith(f"error: {error}")
    assert _events(answer) == {"format": -1.0}


def test_an_object_takes_the_documented_entries_only() -> None:
    env = _make()
    _start(env, "base_152")
    text = "error: updates of edit_ticket has no entry owner; expected title, description, status, priority"
    assert _said(env.step(_call("edit_ticket", ticket_id=1, updates={"owner": "me"})))[0][1] == text
    assert env.step(_call("edit_ticket", ticket_id=1, updates={"priority": 2}))[4]["is_valid"]


def test_an_exception_in_a_service_is_what_its_caller_reads() -> None:
    env = _make()
    _start(env, "base_15")
    answer = env.step(_call("power", base=10, exponent=10**9))
    assert _said(answer)[0][1].startswith("Error during execution: ")
    assert answer[4]["is_valid"]


def test_whole_numbers_and_floats_are_one_call_in_every_format() -> None:
    env, seen = _make(), set()
    for action in (_call("add", a=5, b=1), _call("add", a=5.0, b=1.0), "add 5 | 1"):
        _start(env, "base_15")
        seen.add((_said(env.step(action))[0][1], env.state_key()))
    assert len(seen) == 1


def _trace(entry: Entry) -> list[str]:
    """Return the responses to the ground truth and the state after each call."""
    played = Services(entry)
    return [text for call in entry.calls for text in (played.call(call), played.digest())]


def test_episodes_in_other_threads_and_before_it_change_nothing_in_an_episode() -> None:
    entries = PLAYABLE[:160]
    alone = [_trace(entry) for entry in entries]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(_trace, reversed(entries * 2))) == list(reversed(alone * 2))


def test_instances_share_neither_defaults_nor_long_context_data() -> None:
    tweets = ENTRIES["multi_turn_base_0"]
    post, mention = _of("post_tweet", content="a"), _of("mention", tweet_id=3, mentioned_usernames=["@x"])
    assert tweets.config["TwitterAPI"]["tweet_counter"] == 3
    for _ in range(2):
        played = Services(tweets)
        played.call(_of("authenticate_twitter", username="analyst_pro", password="Kj8#mP9$vL2"))
        assert json.loads(played.call(post))["mentions"] == []
        played.call(mention)
    one, two = (Services(ENTRIES["multi_turn_long_context_150"]) for _ in range(2))
    before = two.digest()
    cards = one._services["TravelAPI"].credit_card_list
    for card in cards.values():
        card["balance"] = 0
    assert cards
    assert two.digest() == before
    assert two.differing(one) == ["TravelAPI"]


def test_a_response_is_not_the_dictionary_that_its_module_keeps() -> None:
    entry = next(
        entry for entry in PLAYABLE if entry.category == "long_context" and entry.services[0].startswith("Veh")
    )
    ask = Services(entry)._services["VehicleControlAPI"].get_outside_temperature_from_google
    first = services._OWN["get_outside_temperature_from_google"](ask, {})
    kept = dict(first)
    assert ask() != first
    assert first == kept


def test_a_travellers_age_does_not_depend_on_the_clock() -> None:
    played = Services(ENTRIES["multi_turn_base_150"])
    travel = played._services["TravelAPI"]
    travel.user_first_name, travel.user_last_name = "Ada", "Byron"
    adult = {"first_name": "Ada", "last_name": "Byron", "passport_number": "US1"}
    verify = "verify_traveler_information"
    assert json.loads(played.call(_of(verify, **adult, date_of_birth="2006-09-01"))) == {"verification_status": True}
    assert "at least 18" in played.call(_of(verify, **adult, date_of_birth="2006-09-02"))
    assert "YYYY-MM-DD" in played.call(_of(verify, **adult, date_of_birth="soon"))


def test_calculations_leave_the_precision_of_the_process_alone() -> None:
    played = Services(ENTRIES["multi_turn_base_15"])
    digits, places = mpmath.mp.dps, decimal.getcontext().prec
    assert played.call(_of("logarithm", value=8.0, base=2.0, precision=5)) == "{'result': mpf('3.0')}"
    assert played.call(_of("square_root", number=2.0, precision=5)) == "{'result': Decimal('1.4142')}"
    assert "error" in played.call(_of("logarithm", value=8.0, base=1.0, precision=5))
    assert (mpmath.mp.dps, decimal.getcontext().prec) == (digits, places)


def test_a_directory_inside_itself_has_a_digest() -> None:
    played = Services(ENTRIES["multi_turn_base_3"])
    for name, arguments in (("mkdir", {"dir_name": "a"}), ("cp", {"source": "a", "destination": "a"})):
        played.call(_of(name, **arguments))
    inside = played._services["GorillaFileSystem"].root.contents["a"].contents["a"]
    assert inside.contents["a"] is inside
    assert played.digest() != Services(ENTRIES["multi_turn_base_3"]).digest()
    assert played.call(_of("du")).startswith("Error during execution: ")


def test_the_state_key_is_of_the_state_and_of_what_was_learnt() -> None:
    env, keys = _make(), []
    for actions in ("pwd", "ls"), ("ls", "pwd"), ("mkdir a",), ("mkdir b",), ("ls",), ("ls", "ok"):
        _start(env, "base_3")
        _play(env, actions)
        keys.append(env.state_key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5


def test_the_oracle_knows_the_next_call_and_when_words_are_due() -> None:
    env = _make()
    _start(env, "base_3")
    first = str(env.demonstrate(np.random.default_rng(0)))
    values = [env.oracle(action) for action in (first, "done", _call("pwd"), _call("no_such"), "", "pwd a | b")]
    assert values == [1.0, 0.0, 0.0, -1.0, -1.0, -1.0]
    env.step(first)
    assert [env.oracle(action) for action in (first, "done")] == [0.0, 1.0]


def test_the_demonstrator_errs_as_often_as_it_is_told() -> None:
    env = _make(mistakes=0.1, categories=["base", "miss_func"])
    outcomes = []
    for seed in range(60):
        task = Task(env_id=BFCL, task_id="", seed=seed, split="train")
        outcomes.append(record_one(env, task, np.random.default_rng(seed)).outcome)
    assert 0.2 < np.mean(outcomes) < 0.8


def test_two_hundred_episodes_of_valid_and_malformed_actions_raise_nothing() -> None:
    env, rng = _make(mistakes=0.5), np.random.default_rng(1)
    for seed in range(200):
        env.reset(seed=seed, options={"split": "train"})
        for _ in range(101):
            malformed = MALFORMED[int(rng.integers(len(MALFORMED)))]
            sampled = env.sample_actions[int(rng.integers(len(env.sample_actions)))]
            answer = env.step((env.demonstrate(rng), sampled, malformed)[int(rng.integers(3))])
            if answer[2] or answer[3]:
                break
        assert answer[2] or answer[3]


def test_the_gold_has_the_calls_and_what_the_user_says() -> None:
    env = _make()
    _start(env, "miss_func_0")
    gold = env.gold()
    assert gold is not None
    assert gold["calls"][0] == {"name": "cd", "arguments": {"folder": "document"}}
    assert gold["question"].startswith("Move 'final_report.pdf' within document directory")
    assert "more functions" not in gold["question"]


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"categories": "bass"}, "env.kwargs.categories=bass: no such name; did you mean base?"),
        ({"categories": []}, "env.kwargs.categories=[]: empty; give some of base, miss_func"),
        ({"max_calls": 0}, "env.kwargs.max_calls=0: out of range; give a whole number from 1 to 1000"),
        ({"mistakes": 2}, "env.kwargs.mistakes=2: not a probability"),
    ],
)
def test_a_wrong_argument_is_one_line(kwargs: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError) as caught:
        _make(**kwargs)
    assert str(caught.value).startswith(error)


def test_without_the_wheel_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel._load_entries.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        _make()
    remedy = "pip install --no-deps bfcl-eval==2026.3.23"
    assert str(caught.value) == f"env.id={BFCL}: needs the package bfcl-eval, which is not installed; {remedy}"


def test_a_wheel_of_another_layout_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    wheel._load_entries.cache_clear()
    monkeypatch.setattr(wheel, "_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"bfcl_eval=.*cannot be read \(FileNotFoundError"):
        _make()
