import json
import re
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest
from verified_pieces import group, scores_of, turn

from turnwise import InvalidAction, UserError
from turnwise.env.beliefs import split_belief
from turnwise.env.conformance import MALFORMED, NO_ACTIONS, validate
from turnwise.tasks import make_env, world_of
from turnwise_envs.household.beliefs import agreement, foretold, key_of, known_facts
from turnwise_envs.household.goal import GOALS, Goal, goals_in
from turnwise_envs.household.house import Command, House, read_command
from turnwise_envs.household.lexicon import FORMS, NOTHING, ROOMS, lexicon_words
from turnwise_envs.household.planner import plan
from turnwise_envs.household.task import Task
from turnwise_rewards.verified.belief import Belief, BeliefConfig

ID = "turnwise/Household-v0"
PLACES = {"apple 1": "fridge 1", "mug 1": "shelf 1", "mug 2": "drawer 1", "fork 1": "sinkbasin 1"}
RECEPTACLES = ("drawer 1", "fridge 1", "microwave 1", "shelf 1", "sinkbasin 1")


def kitchen(**places: str) -> House:
    return House(receptacles=RECEPTACLES, places={**PLACES, **{k.replace("_", " "): v for k, v in places.items()}})


def made(goal: Goal | None = None, house: House | None = None, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Return an environment after a reset, with a goal in a house if they are given."""
    env = make_env(ID, kwargs)
    env.reset(seed=0)
    if goal is not None:
        world: Any = world_of(env)
        world._task = Task(room="kitchen", goal=goal, house=house or kitchen())
        world._house = world._task.house
    return env


def said(answer: tuple[Any, ...]) -> str:
    return str(answer[0][0]["content"])


def events(answer: tuple[Any, ...]) -> dict[str, float]:
    return {event.channel: round(event.value, 3) for event in answer[4]["events"]}


def believing(command: str, **belief: Any) -> str:
    return f"<belief>{json.dumps(belief)}</belief> {command}"


def play(env: gymnasium.Env[Any, Any], rng: np.random.Generator) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the demonstrator's actions and their answers, to the end."""
    steps: list[tuple[str, tuple[Any, ...]]] = []
    while not steps or not any(steps[-1][1][2:4]):
        action = str(world_of(env).demonstrate(rng))
        steps.append((action, env.step(action)))
    return steps


@pytest.mark.parametrize("kwargs", [{}, {"beliefs": True, "goals": "put_two"}, {"admissible": True}], ids=str)
def test_it_keeps_what_every_environment_promises(kwargs: dict[str, Any]) -> None:
    assert [check for check in validate(ID, kwargs) if not check.passed] == []


def test_a_mug_is_found_heated_and_put_away() -> None:
    env = made(Goal("heat", "mug", "drawer"))
    told = [
        ("go to shelf 1", "You arrive at shelf 1. You see mug 1.", {}),
        ("Take mug 1 from shelf 1.", "You take the mug 1 from the shelf 1.", {"progress": 0.333}),
        ("go to microwave 1", "You arrive at microwave 1. It is closed.", {}),
        ("heat mug 1 with microwave 1", "You heat the mug 1 with the microwave 1.", {"progress": 0.333}),
        ("go to drawer 1", "You arrive at drawer 1. It is closed.", {}),
        ("put mug 1 in drawer 1", NOTHING, {}),
        ("inventory", "You carry mug 1.", {}),
        ("open drawer 1", "You open the drawer 1. You see mug 2.", {}),
        ("put mug 1 in/on drawer 1", "You put the mug 1 in the drawer 1. Done.", {"progress": 0.333, "outcome": 1.0}),
    ]
    for command, answer, paid in told:
        step = env.step(command)
        assert (said(step), events(step), step[4]["is_valid"]) == (answer, paid, True)
    assert step[2]


def test_one_hand_holds_one_thing_doors_are_closed_and_not_everything_can_be_heated_everywhere() -> None:
    house = kitchen()

    def tried(*texts: str) -> list[str]:
        return [house.do(read_command(text)) for text in texts]

    assert tried("go to fridge 1", "take apple 1 from fridge 1")[1] == NOTHING
    tried("go to shelf 1", "take mug 1 from shelf 1", "go to sinkbasin 1")
    assert tried("take fork 1 from sinkbasin 1", "heat mug 1 with sinkbasin 1") == [NOTHING, NOTHING]
    assert tried("put mug 1 in sinkbasin 1", "inventory")[1] == "You carry nothing."
    tried("take fork 1 from sinkbasin 1", "go to microwave 1")
    assert tried("heat fork 1 with microwave 1", "inventory") == [NOTHING, "You carry fork 1."]


def test_what_is_cooled_is_hot_no_more() -> None:
    house = kitchen()
    for text in ("go to shelf 1", "take mug 1 from shelf 1", "go to microwave 1", "heat mug 1 with microwave 1"):
        house.do(read_command(text))
    assert house.states == {("mug 1", "hot")}
    for text in ("go to fridge 1", "cool mug 1 with fridge 1", "go to sinkbasin 1", "clean mug 1 with sinkbasin 1"):
        house.do(read_command(text))
    assert house.states == {("mug 1", "cool"), ("mug 1", "clean")}


def test_a_thing_is_looked_at_under_a_lamp_that_nobody_can_take() -> None:
    env = made(Goal("examine", "fork", "desklamp"), kitchen(desklamp_1="shelf 1"))
    env.step("go to shelf 1")
    assert said(env.step("take desklamp 1 from shelf 1")) == NOTHING
    assert said(env.step("use desklamp 1")) == "You turn on the desklamp 1."
    for command in ("go to sinkbasin 1", "take fork 1 from sinkbasin 1", "go to shelf 1"):
        env.step(command)
    assert events(env.step("use desklamp 1")) == {"progress": 0.5, "outcome": 1.0}


def test_what_cannot_be_done_changes_nothing_and_what_is_not_admissible_cannot_be_done() -> None:
    rng = np.random.default_rng(0)
    house = kitchen(desklamp_1="shelf 1")
    names = [*house.receptacles, *house.places, "unicorn 1"]
    thinkable = {
        read_command(form.replace("THING", thing).replace("PLACE", place))
        for form in FORMS.values()
        for thing in names
        for place in names
    }
    for _ in range(40):
        able = house.admissible()
        assert set(able) <= thinkable
        for command in thinkable - set(able):
            key = house.key()
            assert house.do(command) == NOTHING, command
            assert house.key() == key
        assert house.do(able[int(rng.integers(len(able)))]) != NOTHING


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "unknown command ; expected one of go, open, close, take"),
        ("dance wildly", "unknown command dance wildly; expected one of go"),
        ("take mug 1", "expected take THING from PLACE"),
        ("put mug 1 under shelf 1", "expected put THING in PLACE"),
        ("clean mug 1 with", "expected clean THING with PLACE"),
        ("go shelf 1", "expected go to PLACE"),
        ("look around", "expected look"),
    ],
)
def test_a_text_that_is_no_command_says_how_commands_are_written(text: str, error: str) -> None:
    step = made().step(text)
    assert said(step).startswith(f"error: {error}")
    assert (events(step), step[4]["is_valid"]) == ({"format": -1.0}, False)
    with pytest.raises(InvalidAction):
        read_command(text)


def test_progress_is_paid_once() -> None:
    env = made(Goal("put_two", "mug", "sinkbasin"))
    env.step("go to shelf 1")
    paid = [events(env.step(f"{verb} shelf 1")) for verb in ("take mug 1 from", "put mug 1 in", "take mug 1 from")]
    assert paid == [{"progress": 0.25}, {}, {}]
    env.step("go to sinkbasin 1")
    assert events(env.step("put mug 1 in sinkbasin 1")) == {"progress": 0.25}
    assert events(env.step("take mug 1 from sinkbasin 1")) == {}


def test_what_is_closed_shows_nothing_and_the_searcher_knows_no_more_than_was_seen() -> None:
    goal = Goal("put", "apple", "shelf")
    here, there = (made(goal, kitchen(apple_1=place), mistakes=0) for place in ("fridge 1", "microwave 1"))
    actions = [[action for action, _ in play(env, np.random.default_rng(0))] for env in (here, there)]
    same = ["go to drawer 1", "open drawer 1", "go to fridge 1", "open fridge 1"]
    assert actions[0][:5] == [*same, "take apple 1 from fridge 1"]
    assert actions[1][:7] == [*same, "go to microwave 1", "open microwave 1", "take apple 1 from microwave 1"]


@pytest.mark.parametrize("verb", GOALS)
def test_the_demonstrator_without_mistakes_gets_there_and_progress_adds_up(verb: str) -> None:
    env, rng = made(goals=verb, mistakes=0, beliefs=True), np.random.default_rng(0)
    for seed in range(15):
        env.reset(seed=seed, options={"split": ("train", "eval")[seed % 2]})
        steps = play(env, rng)
        assert steps[-1][1][2]
        assert sum(events(step).get("progress", 0.0) for _, step in steps) == pytest.approx(1.0, abs=0.01)
        assert {events(step)["belief/task"] for _, step in steps} == {1.0}
        assert {events(step)["belief/state"] for _, step in steps} == {1.0}


STARTS = (
    (),
    ("go to drawer 2", "open drawer 2"),
    ("go to fridge 1", "open fridge 1", "take mug 2 from fridge 1"),
    ("go to shelf 1", "take fork 1 from shelf 1", "go to fridge 1"),
)


@pytest.mark.parametrize("goal", ["put drawer", "put_two drawer", "clean drawer", "cool drawer", "examine desklamp"])
def test_no_way_is_shorter_than_the_plan(goal: str) -> None:
    verb, place = goal.split()
    for start in STARTS:
        places = {"mug 1": "shelf 1", "mug 2": "fridge 1"}
        places |= {"fork 1": "shelf 1"} if "fork" in " ".join(start) else {}
        places |= {"desklamp 1": "sinkbasin 1"} if verb == "examine" else {}
        house = House(receptacles=("drawer 1", "drawer 2", "fridge 1", "shelf 1", "sinkbasin 1"), places=places)
        for command in start:
            assert house.do(read_command(command)) != NOTHING
        assert len(plan(house, Goal(verb, "mug", place))) == shortest(house, Goal(verb, "mug", place)), start


def shortest(house: House, goal: Goal) -> int:
    """Return the length of the shortest way, by trying all of them."""
    known, queue = {world_key(house)}, deque([(house, 0)])
    while queue:
        state, length = queue.popleft()
        if goal.progress(state) == 1.0:
            return length
        for command in state.admissible():
            if command.verb not in ("look", "inventory", "close"):
                after = state.copy()
                after.do(command)
                if world_key(after) not in known:
                    known.add(world_key(after))
                    queue.append((after, length + 1))
    raise AssertionError("there is no way")


def world_key(house: House) -> tuple[Any, ...]:
    return house.at, tuple(house.places.values()), frozenset(house.opened), frozenset(house.states)


def test_the_oracle_knows_all_and_says_whether_a_command_gets_nearer() -> None:
    env = made(Goal("put", "apple", "shelf"))
    oracle = world_of(env).oracle
    assert oracle("go to fridge 1") == oracle(believing("go to fridge 1", state=[])) == 1.0
    assert oracle("go to shelf 1") == oracle("look") == 0.0
    assert oracle("open fridge 1") == oracle("dance") == oracle("go to fridge 2") == -1.0
    for action in ("go to fridge 1", "open fridge 1", "take apple 1 from fridge 1"):
        assert oracle(action) == 1.0
        env.step(action)
    assert oracle("put apple 1 in fridge 1") == oracle("close fridge 1") == 0.0
    assert world_of(env).gold() is not None


def test_equal_states_have_equal_keys_and_what_was_seen_is_part_of_them() -> None:
    first, second = made(Goal("put", "fork", "shelf")), made(Goal("put", "fork", "shelf"))
    keys = [[env.step(c)[4]["state_key"] for c in cs] for env, cs in ((first, ORDER), (second, ORDER[::-1]))]
    assert keys[0][1] != keys[1][1]
    assert first.step("go to fridge 1")[4]["state_key"] == second.step("go to fridge 1")[4]["state_key"]
    assert made(Goal("put", "fork", "shelf")).step("go to fridge 1")[4]["state_key"] != world_of(first).state_key()


ORDER = ("go to shelf 1", "go to sinkbasin 1")


def test_held_out_goals_are_asked_for_in_no_room_of_training() -> None:
    drawn: dict[str, set[str]] = {"train": set(), "eval": set()}
    env = make_env(ID)
    for split, goals in drawn.items():
        for seed in range(300):
            goals.add(env.reset(seed=seed, options={"split": split})[1]["gold"]["question"])
    assert not drawn["train"] & drawn["eval"]
    for split in drawn:
        assert {verb for verb in GOALS for room in ROOMS if goals_in(room, verb, split)} == set(GOALS)
        assert len(drawn[split]) > 50


def test_no_task_is_begun_already() -> None:
    env = make_env(ID, {"receptacles": 5, "things": 3})
    for seed in range(200):
        env.reset(seed=seed)
        task = world_of(env)._task  # type: ignore[attr-defined]
        assert task.goal.progress(task.house) == 0.0
        assert sum(thing.startswith(task.goal.thing) for thing in task.house.places) >= task.goal.number
        assert len(task.house.receptacles) == 5


def test_a_belief_is_compared_with_what_is_so_and_what_may_be_known() -> None:
    house, goal = kitchen(), Goal("heat", "mug", "drawer")
    house.do(Command("go", place="shelf 1"))
    assert known_facts(house, goal) == ["holding nothing", "mug 1 in shelf 1", "searched shelf 1"]
    everything = {"state": ["Holding  nothing", "mug 1 on shelf 1", "searched shelf 1"], "task": "Find"}
    assert agreement(everything, house, goal) == {"state": 1.0, "task": 1.0}
    assert agreement({"state": "mug 2 in drawer 1", "task": "heat"}, house, goal) == {"state": 0.0, "task": 0.0}
    guess = agreement({"state": [*everything["state"], "mug 2 in drawer 1"]}, house, goal)["state"]
    assert guess == 1.0
    wrong = agreement({"state": [*everything["state"], "mug 2 in fridge 1"]}, house, goal)["state"]
    assert wrong == pytest.approx(2 * 0.75 / 1.75 - 0.1)
    assert agreement({"state": [f"mug {i} in hell" for i in range(50)]}, house, goal)["state"] == -1.0


def test_only_telling_words_are_a_prediction() -> None:
    answer = "You arrive at shelf 1. You see mug 1, plate 2."
    assert foretold({"prediction": ["mug 1", "apple"]}, "go to shelf 1", answer) == 0.5
    assert foretold({"prediction": "You arrive at shelf 1. You see"}, "go to shelf 1", answer) == 0.0
    assert foretold({"prediction": "mug"}, "take mug 1 from shelf 1", "You take the mug 1.") == 0.0


def test_the_belief_s_key_is_its_phase_and_what_it_says_of_the_goal() -> None:
    goal = Goal("put", "mug", "shelf")
    key = key_of({"task": "find", "state": ["mug 1 in shelf 1", "holding nothing"]}, goal)
    assert key == key_of({"task": " Find", "state": ["holding nothing", "mug 1 on shelf 1", "searched bed 1"]}, goal)
    assert key != key_of({"task": "place", "state": ["mug 1 in shelf 1", "holding nothing"]}, goal)
    assert key != key_of({"task": "find", "state": ["mug 2 in shelf 1", "holding nothing"]}, goal)
    assert key_of({"task": "\ud800"}, goal)


def test_a_step_s_key_is_the_belief_stated_with_it() -> None:
    env = made(Goal("put", "mug", "fridge"))
    assert env.reset(seed=0)[1]["belief_key"] is None
    stated = env.step(believing("look", task="find"))[4]["belief_key"]
    assert stated is not None
    assert env.step(believing("dance", task="find"))[4]["belief_key"] == stated
    assert env.step("look")[4]["belief_key"] is None


@pytest.mark.parametrize(
    ("action", "belief", "rest"),
    [
        ("look", None, "look"),
        ('<belief>{"task": "find"}</belief> look', {"task": "find"}, "look"),
        ("<belief>[1]</belief>\nlook", None, "look"),
        ("look <belief>{", None, "look <belief>{"),
        ("<belief>{}</belief><belief>{}</belief>look", None, "<belief>{}</belief><belief>{}</belief>look"),
        ("<belief>" + "[" * 20_000 + "</belief>look", None, "look"),
    ],
    ids=range(6),
)
def test_a_belief_is_taken_off_its_action(action: str, belief: Any, rest: str) -> None:
    assert split_belief(action) == (belief, rest)


def test_the_scorer_by_events_has_a_score_for_every_stated_belief_of_bad_commands_too() -> None:
    env = made(Goal("put", "mug", "fridge"))
    actions = ["look", believing("go to shelf 1", state=["holding nothing"], task="find", prediction="mug")]
    actions += [believing("dance", state=["holding nothing"], task="place", prediction="mug")]
    turns = []
    for action in actions:
        step = env.step(action)
        told = {event.channel.replace("/", "__"): event.value for event in step[4]["events"]}
        turns.append(turn(action, said(step), valid=step[4]["is_valid"], **told))
    scores = {s.turn: s.value for s in scores_of(Belief(BeliefConfig(by="events")), group(turns))}
    assert scores[0] == pytest.approx(-0.005)
    assert scores[1] == pytest.approx(0.4 + 0.3 + 0.2 + 0.001)
    assert scores[2] == pytest.approx(0.4 * 0.5 + 0.1 * -0.01)


def test_the_gold_s_phases_are_those_of_the_tracker() -> None:
    goals = [goal for goal in GOALS if goal != "put_two"]  # whose phases come twice
    env, rng = made(goals=goals, mistakes=0, beliefs=True), np.random.default_rng(0)
    for seed in range(10):
        messages, info = env.reset(seed=seed)
        read = messages[0]["content"]
        for action, step in play(env, rng):
            reached = [name for name, texts in info["gold"]["phases"].items() if not texts or texts[0] in read]
            belief, _ = split_belief(action)
            assert belief is not None
            assert belief["task"] == reached[-1]
            read += said(step)


def test_every_word_is_listed() -> None:
    env, rng = made(beliefs=True, admissible=True, mistakes=0.3), np.random.default_rng(0)
    texts = [said(env.step("dance")).replace("dance", "")]
    for seed in range(60):
        texts.append(env.reset(seed=seed)[0][0]["content"])
        texts += [text for action, step in play(env, rng) for text in (action, said(step))]
    words = {word for text in texts for word in re.findall(r"[A-Za-z]+", text)}
    assert words - {"belief", "state", "prediction"} <= set(lexicon_words())


def test_200_episodes_of_random_actions_and_nonsense_raise_nothing() -> None:
    env, rng = made(admissible=True), np.random.default_rng(0)
    odd = believing("look", state=7, task=[], prediction={"a": None})
    bad = [*MALFORMED, *NO_ACTIONS, odd, "<belief>{</belief> look"]
    for seed in range(200):
        world: Any = world_of(env)
        env.reset(seed=seed, options={"split": ("train", "eval")[seed % 2]})
        over = False
        while not over:
            able = world._house.admissible()
            action = bad[int(rng.integers(len(bad)))] if rng.random() < 0.2 else str(able[int(rng.integers(len(able)))])
            over = any(env.step(action)[2:4])


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"goals": "pt"}, "env.kwargs.goals=pt: no such name; did you mean put?"),
        ({"goals": []}, "env.kwargs.goals=[]: empty; give some of put, put_two"),
        ({"rooms": 7}, "env.kwargs.rooms=7: no such name; one of: kitchen"),
        ({"goals": "heat", "rooms": ["bedroom"]}, "env.kwargs.goals=heat: no such goals in these rooms"),
        ({"receptacles": 4}, "env.kwargs.receptacles=4: out of range; give a whole number from 5 to 20"),
        ({"things": 2}, "env.kwargs.things=2: out of range"),
        ({"max_turns": 0}, "env.kwargs.max_turns=0: out of range"),
        ({"admissible": 1}, "env.kwargs.admissible=1: neither true nor false"),
        ({"mistakes": -1}, "env.kwargs.mistakes=-1: not a probability"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(kwargs: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(ID, kwargs)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
