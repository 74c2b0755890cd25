from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from judge_server import MODEL, JudgeServer, fails, says
from tool_pieces import act, make, play, start, task_of
from verified_pieces import called, group, scores_of, table

from turnwise.env import ToolCall
from turnwise.env.calls import spell_compact, spell_hermes
from turnwise.env.conformance import MALFORMED, validate
from turnwise.errors import InfraError, UserError
from turnwise.tasks import make_env
from turnwise_envs.tool import env as tool_env
from turnwise_envs.tool.env import ServiceEnv
from turnwise_envs.tool.office import SERVICE_OF
from turnwise_envs.tool.task import REFUSED, Kind, Task
from turnwise_envs.tool.user import part_of
from turnwise_rewards.verified.tool_match import ToolMatch, ToolMatchConfig

PLAIN = {"refusals": 0, "withheld": 0}


def _spelt(task: Task, kind: Kind) -> str:
    return spell_compact(next(move.call for move in task.moves if move.kind is kind))


def _is_payment(task: Task) -> bool:
    return any(wish.yes_to and wish.yes_to.name == "pay" and not wish.is_denied for wish in task.wishes)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"services": ["bank"], "calls": 1, "rules": False},
        {"calls": 6, "error_rate": 0.5, "renamed": "both", "match": "turn"},
    ],
    ids=str,
)
def test_it_keeps_the_contract(kwargs: dict[str, Any]) -> None:
    assert [check for check in validate("turnwise/Tool-v0", kwargs) if not check.passed] == []


def test_two_hundred_episodes_of_valid_and_malformed_actions_go_without_an_exception() -> None:
    envs = [make(), make(calls=6, renamed="both", error_rate=0.3), make(services=["mail", "files"], rules=False)]
    rng, over, valid = np.random.default_rng(0), 0, 0
    for number in range(200):
        env = envs[number % len(envs)]
        env.reset(seed=number, options={"split": ("train", "eval")[number % 2]})
        while True:
            said = act(env, MALFORMED[rng.integers(len(MALFORMED))] if rng.random() < 0.3 else _random_call(env, rng))
            valid += said.info["is_valid"]
            assert env.oracle(env.demonstrate(rng)) >= -1
            if said.is_over:
                break
        over += 1
    assert over == 200
    assert valid > 600


def _random_call(env: ServiceEnv, rng: np.random.Generator) -> str:
    function = env.tools[rng.integers(len(env.tools) - 1)]["function"]  # the last one, `answer`, ends it
    name, schema = function["name"], function["parameters"]["properties"]
    things = [*env._office.people, *(str(key) for state in env._office.states.values() for key in state)]
    values = {
        key: int(rng.integers(500)) if one["type"] == "integer" else str(rng.choice(one.get("enum", things)))
        for key, one in schema.items()
    }
    call = ToolCall(name=name, arguments=values)
    return spell_hermes(call) if rng.random() < 0.5 else spell_compact(call)


def test_a_lookup_an_action_and_the_right_end() -> None:
    env = start(lambda task: len(task.wishes) == 1 and len(task.moves) == 2, services=["tickets"], calls=2, **PLAIN)
    look, do = (move.call for move in task_of(env).moves)
    assert env.oracle(spell_compact(do)) == 0.0
    assert env.oracle(spell_compact(look)) == env.oracle(spell_hermes(look)) == 1.0
    first = act(env, spell_hermes(look))
    assert first.text == f"ticket {look.arguments['number']} owner {do.arguments['person']} open"
    assert first.info["call"] == {"name": "ticket", "arguments": look.arguments}
    assert first.events == {"progress": 0.5}
    assert act(env, spell_compact(look)).events == {}
    assert act(env, spell_compact(do)).events == {"progress": 0.5}
    assert env.oracle("answer done") == 1.0
    last = act(env, "answer done")
    assert (last.text, last.events, last.is_over) == ("correct", {"outcome": 1.0}, True)


def test_the_end_is_wrong_if_something_is_missing_or_too_much() -> None:
    env = make(services=["tickets"], calls=1, **PLAIN)
    for extra, expected in ((None, 1.0), ("missing", 0.0), ("more", 0.0)):
        seed = next(s for s in range(50) if env.reset(seed=s) and not task_of(env).told)
        env.reset(seed=seed)
        if extra != "missing":
            act(env, env.demonstrate(np.random.default_rng(0)))
        if extra == "more":
            numbers = [int(number) for number, one in env._office.states["tickets"].items() if one["is_open"]]
            act(env, f"resolve {numbers[0]}")
            act(env, f"resolve {numbers[1]}")
        assert act(env, "answer done").events == {"outcome": expected}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("{told}", 1.0),
        ("It is {told}, who owns the ticket {number}.", 1.0),
        ("{other}", 0.0),
        ("{told} {other}", 0.0),
        ("done", 0.0),
    ],
)
def test_the_answer_must_tell_what_was_asked_and_nobody_else(answer: str, outcome: float) -> None:
    env = start(lambda task: task.told, services=["tickets"], calls=1, **PLAIN)
    told, number = task_of(env).told[0], task_of(env).moves[0].call.arguments["number"]
    other = next(name for name in env._office.people if name != told)
    assert act(env, "answer " + answer.format(told=told, other=other, number=number)).events == {"outcome": outcome}


def test_a_large_payment_without_a_yes_breaks_a_rule_and_spoils_the_outcome() -> None:
    env = start(_is_payment, services=["bank"], calls=1, withheld=0)
    pay = _spelt(task_of(env), Kind.ACT)
    assert env.oracle(pay) == -1.0
    said = act(env, pay)
    assert said.text.startswith("paid ")
    assert said.events == {"policy": -1.0}
    assert env._office.key() == env._goal_key()
    assert act(env, "answer done").events == {"outcome": 0.0}


def test_a_yes_is_to_one_payee_and_amount() -> None:
    env = start(_is_payment, services=["bank"], calls=1, withheld=0)
    to, amount = next(move for move in task_of(env).moves if move.kind is Kind.ACT).call.arguments.values()
    assert env.oracle(f"say May I pay {to} {amount}?") == 1.0
    assert env.oracle(f"say May I pay {to}?") == 0.0
    assert act(env, f"say May I pay {to} {amount - 1}?").text == "That is all I know."
    assert env.oracle(f"pay {to} | {amount}") == -1.0
    asked = act(env, f"say May I pay {to} {amount}?")
    assert (asked.text, asked.events) == ("yes", {"progress": 0.5})
    assert env.oracle(f"pay {to} | {amount}") == 1.0
    assert act(env, f"pay {to} | {amount + 1}").events == {"policy": -1.0}


def test_what_the_user_says_no_to_is_asked_about_and_left() -> None:
    env = start(lambda task: task.wishes[0].is_denied, services=["files"], calls=1, refusals=1)
    file = task_of(env).wishes[0].yes_to.arguments["file"]  # type: ignore[union-attr]
    assert env.gold()["calls"] == []
    assert env.oracle("answer done") == 0.0
    asked = act(env, f"say delete {file}")
    assert (asked.text, asked.events) == ("no", {"progress": 1.0})
    assert env.oracle("answer done") == 1.0
    assert env.oracle(f"delete {file}") == -1.0
    assert act(env, f"delete {file}").events == {"policy": -1.0}
    env.reset(seed=env.task_seed)
    assert act(env, "answer done").events == {"outcome": 0.0}


def test_several_things_put_at_once_get_a_no_if_one_of_them_is_denied() -> None:
    def is_mixed(task: Task) -> bool:
        return {wish.is_denied for wish in task.wishes if wish.yes_to} == {True, False}

    env = start(is_mixed, services=["files"], calls=2, withheld=0, refusals=0.5)
    both = " ".join(spell_compact(wish.yes_to) for wish in task_of(env).wishes if wish.yes_to)
    granted = next(wish.yes_to for wish in task_of(env).wishes if wish.yes_to and not wish.is_denied)
    assert act(env, f"say {both}").text == "no"
    assert env.oracle(f"say {spell_compact(granted)}") == 1.0
    assert env.oracle(spell_compact(granted)) == -1.0
    assert act(env, f"say {spell_compact(granted)}").text == "yes"
    assert [said.events for _, said in play(env)][-1] == {"outcome": 1.0}


def test_what_a_rule_forbids_is_refused() -> None:
    env = start(lambda task: REFUSED in task.told, services=["calendar"], calls=1, refusals=1, withheld=0)
    assert "from 9 to 17" in env.instructions
    wish = task_of(env).wishes[0]
    day, hour, person = (wish.text.removesuffix(".").split()[place] for place in (1, 3, 5))
    assert env.oracle(f"book {day} | {hour} | {person}") == -1.0
    assert env.oracle("answer done") == 0.0
    assert env.oracle(f"answer {REFUSED}: it is too early or too late") == 1.0
    assert act(env, f"book {day} | {hour} | {person}").events == {"policy": -1.0}
    assert act(env, f"answer {REFUSED}").events == {"outcome": 0.0}


def test_without_rules_nothing_is_asked_for() -> None:
    env = start(lambda task: "Delete" in task.request, services=["files"], calls=1, rules=False, withheld=0)
    assert "Rules" not in env.instructions
    steps = [(action.split()[0], said.events) for action, said in play(env)]
    assert steps == [("delete", {"progress": 1.0}), ("answer", {"outcome": 1.0})]


def test_the_user_tells_what_they_kept_back_when_they_are_asked() -> None:
    env = start(lambda task: task.kept_back, services=["tickets"], calls=1, withheld=1)
    wish = task_of(env).wishes[0]
    assert act(env, "say hello").text == "That is all I know."
    assert env.oracle("say to whom?") == env.oracle("say Which colleague?") == 1.0
    asked = act(env, "say to whom?")
    assert (asked.text, asked.events) == (wish.text, {"progress": 0.5})
    assert act(env, "say who").events == {}
    assert play(env)[-1][1].events == {"outcome": 1.0}


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        ("foo", "unknown tool foo; expected one of ticket, assign, resolve, say, answer"),
        ("pay Vera | 4", "unknown tool pay; expected one of ticket, assign, resolve, say, answer"),
        ("ticket", "ticket needs number"),
        ("ticket Vera", "ticket needs number to be a whole number"),
        ("assign 1 | Vera", "no ticket 1"),
        ("say", "say needs text"),
        ("say  ", "say needs text"),
        ("answer " + "x" * 1001, "answer needs text of at most 1000 characters"),
        (
            '<tool_call>{"name": "say", "arguments": {"text": " "}}</tool_call>',
            "say needs text of at most 1000 characters",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_what_cannot_be_done_is_an_error_and_a_format_event(action: str, problem: str) -> None:
    env = start(services=["tickets"], calls=1)
    before = env.state_key()
    if not action.startswith("assign"):
        assert env.oracle(action) == -1.0
    said = act(env, action)
    assert said.text == f"error: {problem}"
    assert (said.events, said.info["is_valid"]) == ({"format": -1.0}, False)
    assert env.state_key() == before


def test_a_service_that_does_not_answer_changes_nothing_and_costs_nothing() -> None:
    env, failed = make(error_rate=0.5, calls=3, max_turns=60, **PLAIN), 0
    for seed in range(20):
        env.reset(seed=seed)
        steps = play(env)
        assert steps[-1][1].events == {"outcome": 1.0}
        for action, said in steps:
            if said.text.startswith("error"):
                failed += 1
                service = SERVICE_OF[action.split()[0]]
                assert said.text == f"error: {service} does not answer, try again"
                assert (said.events, said.info["is_valid"]) == ({}, True)
        assert act(env, "hello").is_over
    assert 30 < failed < 100
    assert task_of(start(calls=3, error_rate=0.5)) == task_of(start(calls=3))


def test_services_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(tool_env.time, "sleep", slept.append)
    env = start(calls=4, latency_s=0.25, **PLAIN)
    steps = play(env)
    assert len(slept) == sum(action.split()[0] in SERVICE_OF for action, _ in steps) > 0
    assert 0 <= min(slept) < max(slept) <= 0.25


@pytest.mark.parametrize("renamed", ["tools", "parameters", "both"])
def test_held_out_tasks_may_have_other_names(renamed: str) -> None:
    env = make(renamed=renamed, services=["bank", "mail"], calls="1-3", **PLAIN)
    old = [schema["function"]["name"] for schema in env.tools]
    for split in ("train", "eval", "train"):
        env.reset(seed=5, options={"split": split})
        is_new = split == "eval"
        names = [schema["function"]["name"] for schema in env.tools]
        keys = {key for schema in env.tools for key in schema["function"]["parameters"]["properties"]}
        assert ("funds" in names, "balance" in names) == (
            is_new and renamed != "parameters",
            not is_new or renamed == "parameters",
        )
        assert ("recipient" in keys, "to" in keys) == (is_new and renamed != "tools", not is_new or renamed == "tools")
        assert {call["name"] for call in env.gold()["calls"]} <= set(names)
        assert all(set(call["arguments"]) <= keys for call in env.gold()["calls"])
        assert names[-2:] == ["say", "answer"]
        if is_new and renamed != "parameters":
            assert act(env, f"{old[0]}").text.startswith(f"error: unknown tool {old[0]}; expected one of funds, ")
        assert play(env)[-1][1].events == {"outcome": 1.0}
    missing = {"both": "rate needs contact", "parameters": "fee needs contact", "tools": "rate needs person"}[renamed]
    env.reset(seed=5, options={"split": "eval"})
    assert act(env, missing.split()[0]).text == f"error: {missing}"


@pytest.mark.parametrize("match", ["trajectory", "turn"])
def test_the_gold_is_what_tool_match_reads(match: str) -> None:
    env = start(lambda task: _is_payment(task) and len(task.moves) > 3, calls=3, match=match, refusals=0)
    gold = json.loads(json.dumps(env.gold()))
    calls = [said.info["call"] for _, said in play(env)]
    scorer = ToolMatch(ToolMatchConfig(ignored=["say", "answer"]))
    right = [called(call["name"], **call["arguments"]) for call in calls]
    scores = table(scores_of(scorer, group(right, right[:1] + right[-1:], gold=gold)), "call_match")
    if match == "trajectory":
        assert scores[0, None] == 3.0
        assert scores[1, None] < 3.0
    else:
        talks = [i for i, call in enumerate(calls) if call["name"] in ("say", "answer")]
        assert {turn: value for (episode, turn), value in scores.items() if episode == 0} == {
            i: 3.0 for i in range(len(calls)) if i not in talks
        }


def test_the_policy_never_sees_the_gold() -> None:
    env = start(calls=2)
    messages, info = env.reset(seed=3)
    assert set(info["gold"]) == {"question", "answer", "structure", "calls"}
    assert messages == [{"role": "user", "content": info["gold"]["question"]}]


def test_equal_states_have_equal_keys() -> None:
    env = start(lambda task: [move.kind for move in task.moves] == [Kind.ACT] * 2, calls=2, **PLAIN)
    first, second = (spell_compact(move.call) for move in task_of(env).moves)
    one = [act(env, action).info["state_key"] for action in (first, second)]
    env.reset(seed=env.task_seed)
    other = [act(env, action).info["state_key"] for action in (second, first)]
    assert one[1] == other[1]
    assert one[0] != other[0]
    assert act(env, "foo").info["state_key"] == one[1]
    assert act(env, "say thanks").info["state_key"] != one[1]


@pytest.mark.parametrize(
    ("mistakes", "low", "high"),
    [({}, 0.4, 0.7), ({"early_answer": 1}, 0.0, 0.1), ({"unasked": 1}, 0.5, 0.9), ({"wrong_value": 1}, 0.0, 0.35)],
    ids=str,
)
def test_the_demonstrator_errs_and_always_comes_to_an_end(mistakes: dict[str, float], low: float, high: float) -> None:
    env = make(
        mistakes={"wrong_value": 0, "unasked": 0, "early_answer": 0, **mistakes} if mistakes else None, calls="1-3"
    )
    rng = np.random.default_rng(0)
    outcomes = []
    for seed in range(120):
        env.reset(seed=seed)
        outcomes.append(play(env, rng)[-1][1].events["outcome"])
    assert low <= np.mean(outcomes) <= high


def test_guidance_names_what_was_left_out_and_no_value() -> None:
    env = start(_is_payment, services=["bank"], calls=1, withheld=0)
    assert env.guide() == "not done: say"
    act(env, _spelt(task_of(env), Kind.ACT))
    assert env.guide() == "nothing was left out, but more was done or told; a rule was broken"


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"services": ["bonk"]}, "env.kwargs.services=bonk: no such name"),
        ({"services": []}, "env.kwargs.services=[]: empty"),
        ({"calls": 7}, "env.kwargs.calls=7: not calls of a task"),
        ({"calls": 4, "services": ["mail"]}, "env.kwargs.calls=4: too many for mail; give at most 3"),
        ({"rules": "no"}, "env.kwargs.rules=no: neither true nor false"),
        ({"rules": False, "refusals": 0.5}, "env.kwargs.refusals=0.5: has no effect without rules"),
        ({"withheld": 2}, "env.kwargs.withheld=2: not a probability"),
        ({"error_rate": 1}, "env.kwargs.error_rate=1: out of range"),
        ({"latency_s": -1}, "env.kwargs.latency_s=-1: out of range"),
        ({"renamed": "all"}, "env.kwargs.renamed=all: no such name; give one of nothing, tools, parameters, both"),
        ({"match": True}, "env.kwargs.match=True: no such name"),
        ({"max_turns": 0}, "env.kwargs.max_turns=0: out of range"),
        ({"mistakes": {"late": 1}}, "env.kwargs.mistakes.late=1: no such mistake"),
        ({"user": {}}, "env.kwargs.user={}: no model at an endpoint"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_the_users_mistake(kwargs: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError) as caught:
        make_env("turnwise/Tool-v0", kwargs)
    assert str(caught.value).startswith(error)


@pytest.fixture
def server() -> Any:
    found = JudgeServer(says("Yes, please do."))
    yield found
    found.die()


def test_a_model_may_be_the_user(server: JudgeServer) -> None:
    env = start(_is_payment, services=["bank"], calls=1, withheld=0, user={"model": MODEL, "base_url": server.url})
    wish = next(wish for wish in task_of(env).wishes if wish.yes_to)
    question = f"May I {wish.text}"
    assert act(env, f"say {question}").text == "Yes, please do."
    assert play(env)[-1][1].events == {"outcome": 1.0}
    part, said = server.asked[-1]["messages"]
    assert (part["role"], said) == ("system", {"role": "user", "content": question})
    assert f"All that you want: {wish.text}" in part["content"]


def test_a_model_that_is_to_say_no_is_told_so() -> None:
    task = task_of(start(lambda task: task.wishes[0].is_denied, services=["files"], calls=1, refusals=1))
    assert f"Say no to this, however you are asked: {task.wishes[0].text}" in part_of(task)


def test_a_model_that_says_anything_but_yes_has_not_agreed(server: JudgeServer) -> None:
    server.usual = says("Yesterday I would have.\n" + "x" * 1000)
    env = start(_is_payment, calls=1, withheld=0, user={"model": MODEL, "base_url": server.url})
    said = act(env, f"say {next(wish.text for wish in task_of(env).wishes if wish.yes_to)}")
    assert (len(said.text), "\n" in said.text, said.events) == (500, False, {})
    assert env.oracle(_spelt(task_of(env), Kind.ACT)) == -1.0


def test_a_user_who_is_lost_is_a_failure_and_no_reward(server: JudgeServer) -> None:
    env = start(calls=1, user={"model": MODEL, "base_url": server.url, "attempts": 1})
    server.script = [fails(500)]
    with pytest.raises(InfraError):
        env.step("say who")
    env.reset(seed=1)
    server.die()
    with pytest.raises(InfraError):
        env.step("say who")
    env.close()
