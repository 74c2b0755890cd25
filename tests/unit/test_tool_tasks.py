from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from tool_pieces import make, play, start, task_of

from turnwise.env import ToolCall
from turnwise.errors import InvalidAction
from turnwise_envs.tool.env import ServiceEnv
from turnwise_envs.tool.lexicon import DAYS, FILES, NEVER_AFTER, PEOPLE, lexicon_words, words
from turnwise_envs.tool.luck import Luck
from turnwise_envs.tool.naming import OTHER_PARAMETERS, OTHER_TOOLS
from turnwise_envs.tool.office import SERVICES, TOOLS, Office, draw_office
from turnwise_envs.tool.plan import Plan
from turnwise_envs.tool.shapes import ACTIONS, MAX_CALLS, SOURCES, draw_shapes, is_held_out, most_calls
from turnwise_envs.tool.task import REFUSED, Kind, Move, Task

ALL = tuple(SERVICES)


def _luck(seed: int = 0) -> Luck:
    return Luck(np.random.default_rng(seed))


def _structure(services: tuple[str, ...], calls: int, split: str, seed: int) -> tuple[str, ...]:
    shapes = draw_shapes(_luck(seed), services, calls, split)
    return tuple(name for shape in shapes for name in shape.services)


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("calls", range(1, MAX_CALLS + 1))
def test_whoever_makes_every_needed_move_and_tells_what_was_asked_succeeds(calls: int, split: str) -> None:
    env = make(calls=calls, refusals=0.4, withheld=0.4)
    for seed in range(25):
        env.reset(seed=seed, options={"split": split})
        num_moves = len(task_of(env).moves)
        steps = play(env)
        assert len(steps) == num_moves + 1
        assert steps[-1][1].events == {"outcome": 1.0}
        assert sum(said.events.get("progress", 0.0) for _, said in steps) == pytest.approx(float(num_moves > 0))


def test_a_task_needs_as_many_calls_as_were_asked_for() -> None:
    for calls in range(1, MAX_CALLS + 1):
        env = start(calls=calls, refusals=0, withheld=0)
        kinds = Counter(move.kind for wish in task_of(env).wishes for move in wish.moves)
        assert kinds[Kind.LOOK] + kinds[Kind.ACT] == calls
        assert len(env.gold()["structure"].split()) == calls


def test_no_training_task_has_a_pair_of_services_of_which_every_held_out_one_has_one() -> None:
    for calls in (2, 3, 6):
        for seed in range(60):
            assert not is_held_out(_structure(ALL, calls, "train", seed))
            assert is_held_out(_structure(ALL, calls, "eval", seed))
    assert all(is_held_out([first, second]) for first, second in NEVER_AFTER.items())


@pytest.mark.parametrize("services", [one for size in (1, 2, 3) for one in combinations(ALL, size)], ids=" ".join)
def test_there_are_tasks_of_every_size_for_any_services(services: tuple[str, ...]) -> None:
    has_pair = any(NEVER_AFTER[name] in services for name in services)
    for calls in range(1, min(MAX_CALLS, most_calls(services)) + 1):
        for seed in range(4):
            for split in ("train", "eval"):
                structure = _structure(services, calls, split, seed)
                assert len(structure) == calls
                assert set(structure) <= set(services)
                assert is_held_out(structure) == (split == "eval" and has_pair and calls > 1)


def test_people_and_files_of_held_out_tasks_occur_in_no_training_task() -> None:
    env = make()
    for split, other in (("train", "eval"), ("eval", "train")):
        for seed in range(60):
            env.reset(seed=seed, options={"split": split})
            foreign = {name.casefold() for names in (PEOPLE, FILES) for name in names[other]}
            assert not words(env._initial) & foreign


def test_training_tasks_hold_every_action_and_every_lookup() -> None:
    drawn = [shape for seed in range(300) for shape in draw_shapes(_luck(seed), ALL, 2, "train")]
    assert {shape.action for shape in drawn} - {None} == set(ACTIONS)
    assert {source for shape in drawn for source in shape.chain} == set(SOURCES)


def test_no_wish_gets_in_another_ones_way() -> None:
    env = make(calls=6, refusals=0)
    for seed in range(60):
        env.reset(seed=seed)
        acts = [move.call for move in task_of(env).moves if move.kind is Kind.ACT]
        states = []
        for order in (acts, acts[::-1]):
            office = Office(json.loads(env._initial), env._office.people)
            for call in order:
                office.call(call)
            states.append(office.key())
        assert states[0] == states[1] != (env._initial if acts else "")


def test_two_equal_wishes_take_two_calls() -> None:
    wish = next(wish for wish in task_of(start(services=["tickets"], calls=1, rules=False)).wishes)
    call = _call("pay", to="Vera", amount=40)
    plan = Plan(Task(wishes=(replace(wish, moves=(Move(Kind.ACT, call),)),) * 2))
    assert [plan.mark(call), len(plan.next_moves), plan.mark(call), plan.next_moves] == [0.5, 1, 0.5, []]


def test_what_the_user_keeps_back_is_not_in_the_request() -> None:
    task = task_of(start(lambda task: task.kept_back, calls=1, withheld=1))
    assert task.request + " " != task.wishes[0].text + " "
    assert task.wishes[0].text.startswith(task.request.removesuffix("."))
    assert task.moves[0].kind is Kind.ASK
    assert not any(task_of(start(calls=4, withheld=0)).kept_back for _ in range(3))


def test_refusals_are_of_both_kinds_and_only_under_rules() -> None:
    env = make(refusals=1.0, calls=1, services=["calendar", "files"])
    seen = set()
    for seed in range(80):
        env.reset(seed=seed)
        wish = task_of(env).wishes[0]
        seen.add((wish.is_denied, wish.told == REFUSED))
    assert {(True, False), (False, True)} <= seen
    free = make(rules=False, calls=2)
    for seed in range(80):
        free.reset(seed=seed)
        assert not any(wish.yes_to or wish.told == REFUSED for wish in task_of(free).wishes)


def test_all_words_are_listed() -> None:
    tools = {name: one for found in (*TOOLS.values(), ServiceEnv._tools) for name, one in found.items()}
    listed = {word.casefold() for word in lexicon_words(tools)}
    env = make(calls="1-6", refusals=0.4, withheld=0.4)
    for seed in range(120):
        messages, _ = env.reset(seed=seed, options={"split": ("train", "eval")[seed % 2]})
        texts = [messages[0]["content"]]
        for action, said in play(env):
            texts += [action] if said.is_over else [action, said.text]
        found = {word for text in texts for word in words(text)}
        assert {word for word in found - listed if not (word.isdigit() and int(word) < 512)} == set()


def test_every_tool_and_parameter_of_a_service_has_another_name_that_is_free() -> None:
    tools = {name: tool for tools in TOOLS.values() for name, tool in tools.items()}
    parameters = {name for tool in tools.values() for name in tool.parameters}
    assert (set(OTHER_TOOLS), set(OTHER_PARAMETERS)) == (set(tools), parameters)
    assert not (set(OTHER_TOOLS.values()) & set(tools)) | (set(OTHER_PARAMETERS.values()) & parameters)
    assert len(set(OTHER_TOOLS.values())) == len(tools)


def test_days_are_those_that_the_calendar_takes() -> None:
    assert TOOLS["calendar"]["agenda"].schema["function"]["parameters"]["properties"]["day"]["enum"] == list(DAYS)


def _office() -> Office:
    states = {
        "bank": {"balance": 460, "fees": {"Vera": 40, "Boris": 50}, "paid": {}},
        "calendar": {day: {} for day in DAYS} | {"Monday": {"14": "Boris", "9": "Vera"}},
        "mail": {"151": {"from": "Vera", "sum": 70, "to": []}},
        "files": {"Lantern": {"author": "Boris", "sum": 80, "readers": []}},
        "tickets": {"212": {"owner": "Vera", "is_open": True}},
    }
    return Office(states, ("Vera", "Boris"))


def _call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        (_call("balance"), "balance 460"),
        (_call("fee", person=" vera "), "fee Vera 40"),
        (_call("pay", to="BORIS", amount=460), "paid Boris 460"),
        (_call("agenda", day="Monday"), "9 Vera; 14 Boris"),
        (_call("agenda", day="Friday"), "nothing"),
        (_call("book", day="Friday", hour=20, person="Vera"), "booked Friday 20 Vera"),
        (_call("cancel", day="Monday", hour=9), "canceled Monday 9"),
        (_call("inbox", person="Vera"), "mail 151 sum 70"),
        (_call("inbox", person="Boris"), "nothing"),
        (_call("forward", mail=151, to="Boris"), "forwarded 151 Boris"),
        (_call("read", file="lantern"), "Lantern author Boris sum 80"),
        (_call("share", file="Lantern", person="Vera"), "shared Lantern Vera"),
        (_call("delete", file="Lantern"), "deleted Lantern"),
        (_call("ticket", number=212), "ticket 212 owner Vera open"),
        (_call("assign", number=212, person="Boris"), "assigned 212 Boris"),
        (_call("resolve", number=212), "resolved 212"),
    ],
    ids=str,
)
def test_services_answer_in_few_words(call: ToolCall, shown: str) -> None:
    assert _office().call(call) == shown


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (_call("fee", person="Zed"), "no person zed"),
        (_call("pay", to="Vera", amount=461), "pay needs amount from 1 to 460"),
        (_call("pay", to="Vera", amount=0), "pay needs amount from 1 to 460"),
        (_call("book", day="Monday", hour=9, person="Vera"), "Monday 9 is taken"),
        (_call("book", day="Monday", hour=24, person="Vera"), "book needs hour from 0 to 23"),
        (_call("cancel", day="Monday", hour=10), "no meeting Monday 10"),
        (_call("forward", mail=1, to="Vera"), "no mail 1"),
        (_call("share", file="Notes", person="Vera"), "no file notes"),
        (_call("share", file="Lantern", person=""), "no person "),
        (_call("resolve", number=10**400), "no ticket 1000000000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_service_cannot_do_leaves_its_state(call: ToolCall, problem: str) -> None:
    office = _office()
    with pytest.raises(InvalidAction) as caught:
        office.call(call)
    assert str(caught.value) == problem
    assert office.key() == _office().key()


def test_a_state_tells_two_payments_from_one_and_does_not_tell_their_order() -> None:
    amounts = ((40, 60), (60, 40), (100,))
    keys = []
    for way in amounts:
        office = _office()
        for amount in way:
            office.call(_call("pay", to="Vera", amount=amount))
        keys.append(office.key())
    assert keys[0] == keys[1] != keys[2]


def test_a_resolved_ticket_shows() -> None:
    office = _office()
    office.call(_call("resolve", number=212))
    assert office.call(_call("ticket", number=212)) == "ticket 212 owner Vera resolved"


def test_luck_draws_evenly_and_without_repeats() -> None:
    luck = _luck()
    assert sorted(luck.some(range(10), 10)) == list(range(10))
    counts = Counter(luck.some("abcd", 2)[0] for _ in range(4000))
    assert all(800 < counts[letter] < 1200 for letter in "abcd")
    with pytest.raises(ValueError, match="3 of 2"):
        luck.some("ab", 3)


def test_an_office_holds_what_was_asked_for() -> None:
    office = draw_office(_luck(), ("mail", "tickets"), "eval")
    assert list(office.states) == ["mail", "tickets"]
    assert set(office.people) <= set(PEOPLE["eval"])


def test_tasks_and_state_keys_are_the_same_in_every_process() -> None:
    code = (
        "from turnwise.tasks import make_env; env = make_env('turnwise/Tool-v0', {'calls': 4});"
        "print([env.reset(seed=s) for s in range(3)])"
    )
    variables = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, env=variables)
    env = make(calls=4)
    assert done.stdout.strip() == str([env.reset(seed=seed) for seed in range(3)])
