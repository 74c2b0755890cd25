import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from turnwise import UserError
from turnwise.env.conformance import validate
from turnwise.tasks import TaskSet, make_env, world_of
from turnwise_envs.search.env import SearchEnv
from turnwise_envs.search.library import Library, shelf
from turnwise_envs.search.problem import Problem, normalize
from turnwise_envs.search.researcher import Mistakes, relations_of
from turnwise_envs.search.world import generate_question, question_text

NO_MISTAKES = {"wrong_relation": 0, "wrong_page": 0, "early_answer": 0, "wrong_value": 0}


def _make(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return make_env("turnwise/Search-v0", kwargs)


def _said(answer: tuple[Any, ...]) -> str:
    return str(answer[0][0]["content"])


def _events(answer: tuple[Any, ...]) -> dict[str, float]:
    return {event.channel: event.value for event in answer[4]["events"]}


def _play(env: gymnasium.Env[Any, Any], seed: int, rng: np.random.Generator) -> tuple[list[str], dict[str, float]]:
    """Return the demonstrator's actions and the last events."""
    env.reset(seed=seed)
    actions = []
    while True:
        actions.append(str(world_of(env).demonstrate(rng)))
        answer = env.step(actions[-1])
        assert answer[4]["is_valid"], (actions[-1], _said(answer))
        if answer[2] or answer[3]:
            return actions, _events(answer)


@pytest.fixture
def asked() -> tuple[gymnasium.Env[Any, Any], dict[str, Any]]:
    """An environment at the start of task 3, and its gold: the industry of the twin of Naples is Quarry."""
    env = _make()
    gold = env.reset(seed=3)[1]["gold"]
    assert gold["question"] == "What is the industry of the twin of Naples?"
    assert gold["answer"] == "Quarry"
    return env, gold


@pytest.mark.parametrize("kwargs", [{}, {"hops": 1}, {"hops": "1-4", "num_entities": 40, "top_k": 5}])
def test_it_keeps_the_contract(kwargs: dict[str, Any]) -> None:
    assert [check for check in validate("turnwise/Search-v0", kwargs) if not check.passed] == []


def test_a_two_hop_question_is_search_open_search_open_answer(asked: Any) -> None:
    env, gold = asked
    first, second = gold["pages"]
    assert first in _said(env.step("search twin Naples")).split("; ")
    assert _said(env.step(f"open {first}")).startswith("Naples, a place.")
    assert second in _said(env.step("search industry Geneva")).split("; ")
    assert "industry: Quarry." in _said(env.step(f"open {second}"))
    answer = env.step(f"answer Quarry | {first} ; {second}")
    assert _events(answer) == {"outcome": 1.0, "citation": 1.0}
    assert answer[1:3] == (2.0, True)


def test_a_search_shows_three_titles_and_finds_the_pages_of_the_entity_first(asked: Any) -> None:
    titles = _said(asked[0].step("search twin Naples")).split("; ")
    assert len(titles) == 3
    assert titles[0] == "Naples notes"


def test_the_policy_never_sees_the_gold(asked: Any) -> None:
    env, _ = asked
    messages, info = env.reset(seed=3)
    assert [set(message) for message in messages] == [{"role", "content"}]
    assert set(info["gold"]) == {"question", "answer", "aliases", "pages", "rubrics", "entities"}
    assert json.loads(json.dumps(info["gold"])) == info["gold"]
    assert "gold" not in env.step("search twin Naples")[4]


def test_rubrics_are_single_hops_over_hidden_entities(asked: Any) -> None:
    assert asked[1]["rubrics"] == [
        {"statement": "The twin of Naples is <E1>.", "entities": ["<E1>"], "page": "Naples notes"},
        {"statement": "The industry of <E1> is <E0>.", "entities": ["<E0>", "<E1>"], "page": "Geneva notes"},
    ]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("open Naples ledger", "error: no page Naples ledger"),
        ("foo", "error: unknown tool foo; expected one of search, open, answer"),
        ("open", "error: open needs page"),
        ("answer", "error: answer needs text"),
        ("answer  | Naples notes", "error: answer needs text"),
    ],
)
def test_what_cannot_be_done_is_an_error_and_a_format_event(asked: Any, action: str, text: str) -> None:
    answer = asked[0].step(action)
    assert answer[0] == [{"role": "tool", "content": text}]
    assert _events(answer) == {"format": -1.0}
    assert answer[4]["is_valid"] is False


def test_a_search_without_results_is_no_malformed_action(asked: Any) -> None:
    answer = asked[0].step("search zzz !!!")
    assert _said(answer) == "error: nothing found"
    assert answer[4]["is_valid"] is True
    assert _events(answer) == {}


@pytest.mark.parametrize(
    ("actions", "share"),
    [
        ((), 0.0),
        (("open Naples notes",), 0.5),
        (("open Naples notes", "open geneva  NOTES"), 1.0),
    ],
)
def test_a_citation_counts_if_its_page_was_opened(asked: Any, actions: Iterable[str], share: float) -> None:
    for action in actions:
        asked[0].step(action)
    answer = asked[0].step("answer wrong | Naples notes ; Geneva notes ; Geneva notes ; no page")
    assert _events(answer) == {"outcome": 0.0, "citation": share}


def test_a_page_that_was_opened_but_not_cited_does_not_count(asked: Any) -> None:
    asked[0].step("open Naples notes")
    assert _events(asked[0].step("answer quarry!"))["citation"] == 0.0


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        ("Oslo", True),
        ("  the OSLO.", True),
        ("O'slo", True),
        ("Kristiania", True),
        ("Oslo Bergen", False),
        ("", False),
        ("the", False),
        ("!", False),
    ],
)
def test_answers_are_compared_as_words(given: str, is_right: bool) -> None:
    assert Problem(text="?", answer="Oslo", aliases=("Kristiania",)).is_right(given) is is_right


def test_an_answer_that_is_an_article_keeps_it() -> None:
    assert normalize("A") == "a"
    assert Problem(text="?", answer="A").is_right("a")
    assert not Problem(text="?", answer="A").is_right("the")
    assert Problem(text="?", answer="+").is_right(" + ")
    assert not Problem(text="?", answer="+").is_right("-")


def test_the_task_follows_from_the_seed_alone() -> None:
    env, other = _make(hops="1-4"), _make(hops="1-4")
    assert [env.reset(seed=s)[1]["gold"] for s in range(20)] == [other.reset(seed=s)[1]["gold"] for s in range(20)]
    assert len({env.reset(seed=s)[0][0]["content"] for s in range(50)}) > 40


def test_hops_are_drawn_from_what_was_asked_for() -> None:
    for hops, expected in ((3, {3}), ([1, 4], {1, 4}), ("2-3", {2, 3}), ("4", {4})):
        env = _make(hops=hops)
        assert {len(env.reset(seed=s)[1]["gold"]["pages"]) for s in range(30)} == expected
        assert env.unwrapped.max_turns == 2 * max(expected) + 4


def test_the_episodes_of_a_group_share_one_world() -> None:
    shelves = []

    def reset() -> None:
        env = _make()
        env.reset(seed=987_654)
        shelves.append(env.unwrapped._shelf)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=reset) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(shelves) == 8
    assert len({id(found) for found in shelves}) == 1


def test_the_oracle_follows_the_shortest_path(asked: Any) -> None:
    env, _ = asked
    oracle = world_of(env).oracle
    assert oracle("search twin Naples") == oracle("search the twin of naples") == 1.0
    assert oracle("search mayor Naples") == oracle("search twin Geneva") == oracle("search Naples") == 0.0
    assert oracle("open Naples notes") == 1.0
    assert oracle("open Naples archive") == oracle("open Nothing notes") == 0.0
    assert oracle("answer Quarry") == 0.0
    assert oracle("foo") == oracle("") == oracle("open a | b") == -1.0
    env.step("search twin Naples")
    assert oracle("search twin Naples") == 0.0
    env.step("open Naples notes")
    assert oracle("open Naples notes") == 0.0
    assert oracle("search industry Geneva") == 1.0
    env.step("open Geneva notes")
    assert oracle("answer Quarry | Geneva notes") == 1.0
    assert oracle("answer Geneva") == oracle("search industry Geneva") == oracle("open Geneva notes") == 0.0


def test_equal_states_have_equal_keys(asked: Any) -> None:
    env, _ = asked
    start = world_of(env).state_key()
    searched = env.step("search twin Naples")[4]["state_key"]
    assert searched != start
    assert env.step("foo")[4]["state_key"] == searched
    env.step("open Naples notes")
    one = env.step("open Geneva notes")[4]["state_key"]
    env.reset(seed=3)
    for action in ("search twin Naples", "open Geneva notes", "open Naples notes"):
        other = env.step(action)[4]["state_key"]
    assert one == other
    assert env.reset(seed=4)[1]["state_key"] != start


def test_state_keys_are_the_same_in_every_process() -> None:
    code = "from turnwise.tasks import make_env; print(make_env('turnwise/Search-v0').reset(seed=3)[1]['state_key'])"
    assert _printed(code, hash_seed="1") == _printed(code, hash_seed="2")


def _printed(code: str, hash_seed: str = "random") -> str:
    variables = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=variables).stdout


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_a_demonstrator_without_mistakes_takes_the_shortest_path(hops: int) -> None:
    env, rng = _make(hops=hops, mistakes=NO_MISTAKES), np.random.default_rng(0)
    for seed in range(20):
        actions, events = _play(env, seed, rng)
        assert [action.split()[0] for action in actions] == ["search", "open"] * hops + ["answer"]
        assert events == {"outcome": 1.0, "citation": 1.0}


def test_the_demonstrator_with_defaults_is_right_about_every_second_time() -> None:
    env, rng = _make(), np.random.default_rng(0)
    outcomes = [_play(env, seed, rng)[1]["outcome"] for seed in range(300)]
    assert 0.4 < statistics.mean(outcomes) < 0.75


@pytest.mark.parametrize("mistake", list(NO_MISTAKES))
def test_each_mistake_shows_and_every_episode_ends_with_an_answer(mistake: str) -> None:
    env, rng = _make(mistakes={**NO_MISTAKES, mistake: 1.0}, max_turns=20), np.random.default_rng(0)
    played = [_play(env, seed, rng) for seed in range(40)]
    assert all(actions[-1].startswith("answer ") for actions, _ in played)
    success = statistics.mean(events["outcome"] for _, events in played)
    if mistake == "wrong_page":
        assert success == 1.0
        assert statistics.mean(len(actions) for actions, _ in played) > 6
    elif mistake == "early_answer":
        assert success == 0.0
        assert all(len(actions) == 3 for actions, _ in played)
    else:
        assert success < 0.3


def test_the_demonstrator_goes_on_from_states_that_it_did_not_make() -> None:
    env, rng = _make(mistakes=NO_MISTAKES), np.random.default_rng(0)
    for seed in range(20):
        gold = env.reset(seed=seed)[1]["gold"]
        for action in ("foo", f"open {gold['pages'][0]}"):
            env.step(action)
        for _ in range(3):
            last = env.step(world_of(env).demonstrate(rng))
        assert last[2]
        assert _events(last)["outcome"] == 1.0


def test_the_demonstrator_answers_before_it_runs_out_of_turns() -> None:
    env, rng = _make(mistakes={**NO_MISTAKES, "wrong_page": 1.0}, max_turns=4), np.random.default_rng(0)
    assert all(_play(env, seed, rng)[0][-1].startswith("answer ") for seed in range(20))


def test_relations_are_those_of_the_question() -> None:
    world = shelf(5, 20).world
    for seed in range(50):
        question = generate_question(world, 1 + seed % 4, np.random.default_rng(seed))
        assert question_text(relations_of(question), question.chain[0]) == question.text


def test_ranking_counts_titles_twice_and_breaks_ties_by_order() -> None:
    library = Library({"b page": "red", "a page": "red", "Red": "green and so on", "nothing": "at all"})
    assert library.search("RED?", 3) == ("Red", "b page", "a page")
    assert library.search("red", 2) == ("Red", "b page")
    assert library.search("blue", 3) == library.search("", 3) == ()
    assert Library({"!": "?"}).search("a", 3) == ()


def test_top_k_of_many_pages_is_the_head_of_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    texts = {f"page {i}": " ".join(rng.choice(["a", "b", "c", "d", "e"], rng.integers(1, 30))) for i in range(500)}
    library = Library(texts)
    assert library.search("a c", 5) == library.search("a c", 500)[:5]


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"hops": 5}, "env.kwargs.hops=5: not hops of a question; give 1 to 4, a list, or a range"),
        ({"hops": "4-1"}, "env.kwargs.hops=4-1"),
        ({"hops": "1-9999999999"}, "env.kwargs.hops=1-9999999999"),
        ({"hops": [0, 1]}, "env.kwargs.hops"),
        ({"hops": []}, "env.kwargs.hops"),
        ({"hops": True}, "env.kwargs.hops=True"),
        ({"num_entities": 5}, "env.kwargs.num_entities=5: out of range; give a whole number from 10 to 150"),
        ({"top_k": 0}, "env.kwargs.top_k=0"),
        ({"max_turns": "x"}, "env.kwargs.max_turns=x"),
        ({"mistakes": {"wrong_pages": 0.1}}, r"mistakes.wrong_pages=0.1: no such mistake; did you mean wrong_page\?"),
        ({"mistakes": {"wrong_page": 2}}, "mistakes.wrong_page=2: not a probability"),
        ({"corpus": "a.jsonl"}, "one without the other"),
        ({"corpus": "a.jsonl", "tasks": "b.jsonl", "hops": 2}, "env.kwargs.hops=2: has no effect"),
        ({"corpus": "no_such.jsonl", "tasks": "b.jsonl"}, "env.kwargs.corpus=no_such.jsonl: cannot be read"),
    ],
)
def test_arguments_that_do_not_fit_are_the_users_mistake(kwargs: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        _make(**kwargs)


PAGES = [{"title": "Marie Curie", "text": "Born in Warsaw."}, {"title": "Warsaw", "text": "On the river Vistula."}]
TASKS = [
    {
        "id": "river",
        "question": "On which river was Marie Curie's city of birth?",
        "answer": "Vistula",
        "aliases": ["Wisla"],
        "gold_pages": ["marie curie", "Warsaw"],
        "rubrics": [{"statement": "Marie Curie was born in <E1>.", "entities": ["<E1>"], "page": "Marie Curie"}],
    },
    {"question": "Who was born in Warsaw?", "answer": "Marie Curie"},
    {"question": "Held out?", "answer": "yes", "split": "eval"},
]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    return _write(tmp_path, PAGES, TASKS)


def _write(folder: Path, pages: list[Any], tasks: list[Any]) -> dict[str, str]:
    for name, lines in (("corpus", pages), ("tasks", tasks)):
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (folder / f"{name}.jsonl").write_text(text + "\n")
    return {name: str(folder / f"{name}.jsonl") for name in ("corpus", "tasks")}


def test_a_corpus_of_ones_own_keeps_the_contract_and_counts_its_tasks(own: dict[str, str]) -> None:
    assert [check for check in validate("turnwise/Search-v0", own) if not check.passed] == []
    assert TaskSet.of("turnwise/Search-v0", own, "train", 0).num_tasks == 2
    assert TaskSet.of("turnwise/Search-v0", own, "eval", 0).num_tasks == 1


def test_a_task_of_ones_own_is_played_and_judged(own: dict[str, str]) -> None:
    env = _make(**own)
    messages, info = env.reset(seed=0, options={"split": "train"})
    assert messages[0]["content"] == TASKS[0]["question"]
    assert info["gold"]["pages"] == ["Marie Curie", "Warsaw"]
    assert _said(env.step("search born")) == "Marie Curie"
    assert _said(env.step("open warsaw")) == "On the river Vistula."
    assert _events(env.step("answer wisla | Warsaw")) == {"outcome": 1.0, "citation": 0.5}
    env.reset(seed=1, options={"split": "train"})
    assert _events(env.step("answer Curie")) == {"outcome": 0.0}
    assert env.reset(seed=0, options={"split": "eval"})[0][0]["content"] == "Held out?"
    assert world_of(env).demonstrate(np.random.default_rng(0)) is None
    assert world_of(env).oracle("search a") is None


def test_a_file_that_changes_is_read_again(tmp_path: Path, own: dict[str, str]) -> None:
    assert _make(**own).unwrapped.num_tasks("train") == 2
    _write(tmp_path, PAGES, TASKS[:1])
    assert _make(**own).unwrapped.num_tasks("train") == 1


def test_a_split_without_tasks_is_the_users_mistake(tmp_path: Path) -> None:
    own = _write(tmp_path, PAGES, TASKS[:1])
    with pytest.raises(UserError, match="empty task set: no eval tasks"):
        TaskSet.of("turnwise/Search-v0", own, "eval", 0)
    with pytest.raises(UserError, match="no tasks of this split"):
        _make(**own).reset(seed=0, options={"split": "eval"})


@pytest.mark.parametrize(
    ("pages", "tasks", "line"),
    [
        (["{"], TASKS, r"corpus.jsonl:1: not JSON"),
        (["[" * 100_000], TASKS, r"corpus.jsonl:1: not JSON"),
        ([*PAGES, "7"], TASKS, r"corpus.jsonl:3: not a JSON object"),
        ([{"title": "a"}], TASKS, r'corpus.jsonl:1: "text" must be a text'),
        ([{"title": " ", "text": "b"}], TASKS, r'corpus.jsonl:1: "title" must be a text'),
        ([*PAGES, "", PAGES[0]], TASKS, r"corpus.jsonl:4: title 'Marie Curie' is there twice"),
        ([], TASKS, "holds no page"),
        (PAGES, [], "empty task set"),
        (PAGES, [{"question": "a"}], r'tasks.jsonl:1: "answer" must be a text'),
        (PAGES, [{"question": "a", "answer": 7}], r'tasks.jsonl:1: "answer" must be a text'),
        (PAGES, [TASKS[1] | {"aliases": "b"}], r'tasks.jsonl:1: "aliases" must be a list of texts'),
        (PAGES, [TASKS[1] | {"gold_pages": ["Oslo"]}], r"tasks.jsonl:1: the corpus has no page 'Oslo'"),
        (PAGES, [TASKS[1] | {"rubrics": [1]}], r'tasks.jsonl:1: "rubrics" must be a list'),
        (PAGES, [TASKS[1] | {"split": "test"}], r'tasks.jsonl:1: "split" must be one of train, eval'),
        (PAGES, [TASKS[1] | {"anwser": "b"}], r'tasks.jsonl:1: unknown key "anwser"'),
        (PAGES, [TASKS[0], TASKS[0]], r"tasks.jsonl:2: id 'river' is there twice"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path: Path, pages: list[Any], tasks: list[Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        _make(**_write(tmp_path, pages, tasks))


def test_a_file_that_is_no_text_is_the_users_mistake(tmp_path: Path, own: dict[str, str]) -> None:
    Path(own["corpus"]).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        _make(**own)


def test_importing_the_environments_loads_nothing_heavy() -> None:
    code = (
        "import sys, turnwise_envs.search.env, turnwise_envs.text.env; turnwise_envs.register_all();"
        "print([name for name in ('torch', 'ray', 'bm25s', 'transformers') if name in sys.modules])"
    )
    assert _printed(code).strip() == "[]"


def test_steps_and_queries_are_fast() -> None:
    env, rng = _make(), np.random.default_rng(0)
    _play(env, 0, rng)
    env.reset(seed=1)
    started = time.perf_counter()
    for _ in range(7):
        env.step("search founder Acme")
    assert (time.perf_counter() - started) / 7 < 4e-3  # measured: 0.05 ms; the machine may be busy
    assert Mistakes() == Mistakes(wrong_relation=0.1, wrong_page=0.15, early_answer=0.1, wrong_value=0.1)
    assert isinstance(world_of(env), SearchEnv)


def test_guidance_is_the_plan_and_the_first_fact_that_was_not_found(asked: Any) -> None:
    env, _ = asked
    env.step("answer Lima")
    assert world_of(env).guide() == "search twin Naples; search industry; answer. not found: twin of Naples"
    env.reset(seed=3, options={"guidance": str(world_of(env).guide())})
    for page in (world_of(env)._problem.gold_pages[0],):  # type: ignore[attr-defined]
        env.step(f"open {page}")
    env.step("answer Lima")
    twin = world_of(env)._question.chain[1]  # type: ignore[attr-defined]
    assert str(world_of(env).guide()).endswith(f"not found: industry of {twin}")


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_guidance_never_names_the_answer_nor_what_the_attempt_has_not_read(hops: int) -> None:
    env = _make(hops=hops)
    rng = np.random.default_rng(hops)
    for seed in range(40):
        env.reset(seed=seed)
        world: Any = world_of(env)
        for page in world._problem.gold_pages[: rng.integers(hops + 1)]:
            env.step(f"open {page}")
        env.step("answer nobody")
        words = str(world.guide()).replace(";", " ").replace(".", " ").replace(":", " ").split()
        read = " ".join([world._problem.text, *(world._pages.texts[page] for page in world._opened)])
        assert world._problem.answer not in words
        assert [name for name in world._question.chain[1:] if name in words and name not in read] == []


def test_guidance_over_a_corpus_names_pages_but_not_one_that_tells_the_answer(tmp_path: Path) -> None:
    pages = [("Acme", "Acme was founded by Ada."), ("Ada", "Ada was born in London."), ("London town", "A place.")]
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"title": title, "text": text}) + "\n" for title, text in pages)
    )
    task = {"question": "Where?", "answer": "London", "gold_pages": ["Acme", "Ada", "London town"]}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    env = _make(corpus=str(tmp_path / "corpus.jsonl"), tasks=str(tmp_path / "tasks.jsonl"))
    env.reset(seed=0)
    env.step("open Acme")
    env.step("answer Rome")
    assert world_of(env).guide() == "not opened: Ada"
    env.reset(seed=0)
    for action in ("open Acme", "open Ada", "answer Rome"):
        env.step(action)
    assert world_of(env).guide() is None
