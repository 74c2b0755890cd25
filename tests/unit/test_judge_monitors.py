"""Votes are combined without inventing a majority; a judge that differs from another, or from itself, is seen."""

import asyncio
import json
import threading
from dataclasses import dataclass

import pytest

from turnwise import registry
from turnwise.cli.sections import read_section
from turnwise.config import build_plugin, key, load_config
from turnwise.errors import JudgeError, UserError
from turnwise.registry import load_plugins
from turnwise_rewards.asking import ask
from turnwise_rewards.judging import Question, Reply
from turnwise_rewards.judging.cache import Cache
from turnwise_rewards.judging.checking import build_judge
from turnwise_rewards.judging.guards import Guarded
from turnwise_rewards.judging.gullible import Gullible
from turnwise_rewards.judging.monitors import Compared, Watched, is_equal, usual_probes
from turnwise_rewards.judging.rule import RuleConfig, RuleJudge
from turnwise_rewards.judging.schemas import closed
from turnwise_rewards.judging.votes import agreed

BOOL = {"type": "boolean"}
WITH_REASON = closed({"type": "object", "properties": {"same": BOOL, "reason": {"type": "string"}}})
NAMES = closed({"type": "object", "properties": {"E0": {"type": ["string", "null"]}}})
GRADE = closed({"type": "object", "properties": {"score": {"type": "number"}}})
PREFER = closed(
    {
        "type": "object",
        "properties": {
            "winner": {"enum": ["first", "second", "same"]},
            "criteria": {"type": "array", "items": {"type": "object", "properties": {"score": {"type": "integer"}}}},
        },
    }
)


def test_the_majority_decides_and_the_reason_is_of_one_that_agrees():
    votes = [{"same": False, "reason": "a"}, {"same": True, "reason": "b"}, {"same": True, "reason": "c"}]
    found = agreed(votes, WITH_REASON)
    assert found.value == {"same": True, "reason": "b"}
    assert found.agreement == pytest.approx(2 / 3)


def test_numbers_have_their_median():
    assert agreed([{"score": 1}, {"score": 9}, {"score": 8}], GRADE).value == {"score": 8}
    votes = [{"winner": "first", "criteria": [{"score": score}]} for score in (-2, 1, 2)]
    assert agreed(votes, PREFER).value == {"winner": "first", "criteria": [{"score": 1}]}


@pytest.mark.parametrize(
    ("votes", "schema"),
    [
        ([{"same": True, "reason": ""}, {"same": False, "reason": ""}], WITH_REASON),
        ([{"E0": "Oslo"}, {"E0": "Bergen"}, {"E0": None}], NAMES),
        ([{"winner": "first", "criteria": []}, {"winner": "first", "criteria": [{"score": 1}]}], PREFER),
    ],
)
def test_without_a_majority_there_is_no_verdict(votes, schema):
    with pytest.raises(JudgeError):
        agreed(votes, schema)


def test_a_name_that_most_votes_give_is_given():
    found = agreed([{"E0": "Oslo"}, {"E0": "Oslo"}, {"E0": None}], NAMES)
    assert (found.value, found.agreement) == ({"E0": "Oslo"}, pytest.approx(2 / 3))


class Moody:
    """Says what it is told, and may be asked anew."""

    kinds = ("same_answer",)

    def __init__(self, verdict=True):
        self.verdict, self.num_asked, self.num_anew = verdict, 0, 0

    async def ask(self, question):
        self.num_asked += 1
        if self.verdict is None:
            raise JudgeError("no")
        return Reply(value={"same": self.verdict}, judge="moody", agreement=0.8)

    async def ask_anew(self, question):
        self.num_anew += 1
        return await self.ask(question)

    async def close(self):
        pass


def question(kind="same_answer"):
    known = {"question": "?", "answer": "x", "aliases": [], "criterion": "c"}
    return Question(kind=kind, instructions="", known=known, quoted={"answer": "y", "text": "z"})


def asked(judge, num):
    async def again():
        return [await judge.ask(question()) for _ in range(num)]

    return asyncio.run(again())


def test_every_nth_reply_is_compared_with_a_second_judge_and_not_changed():
    first, second = Moody(True), Moody(False)
    both = Compared(first, second, every=5)
    assert {reply.value["same"] for reply in asked(both, 20)} == {True}
    assert (first.num_asked, second.num_asked) == (20, 4)
    assert both.metrics() == {
        "judge/compared": 4.0,
        "judge/disagreement": 1.0,
        "judge/vote_agreement": pytest.approx(0.8),
    }
    assert both.raises_alarm


def test_a_second_judge_that_fails_or_cannot_answer_is_not_compared():
    silent = Compared(Moody(True), Moody(None), every=1)
    asked(silent, 3)
    assert silent.metrics()["judge/compared"] == 0
    assert not silent.raises_alarm
    other = Compared(Guarded(Moody(True)), RuleJudge(RuleConfig()), every=1)
    asked(other, 2)
    assert other.metrics()["judge/disagreement"] == 1.0


def test_a_judge_that_changes_its_mind_about_the_probes_has_drifted():
    judge = Moody(True)
    watched = Watched(judge, usual_probes(), every=10)
    asked(watched, 10)
    assert watched.metrics() == {"judge/probe_rounds": 1.0, "judge/drift": 0.0}
    assert judge.num_anew == 8
    judge.verdict = False
    asked(watched, 1)
    assert watched.metrics() == {"judge/probe_rounds": 2.0, "judge/drift": 1.0}
    assert watched.raises_alarm


def test_a_judge_that_fails_on_the_probes_has_not_drifted():
    judge = Moody(True)
    watched = Watched(judge, usual_probes(), every=1)
    asyncio.run(watched.probe())
    judge.verdict = None
    assert asyncio.run(watched.probe()) is None
    assert not watched.raises_alarm


def test_the_rules_decide_the_usual_probes_as_they_are_meant():
    judge = RuleJudge(RuleConfig())
    said = [asyncio.run(judge.ask(probe)).value["same"] for probe in usual_probes()]
    assert said == [True, False] * 4


def test_watching_needs_probes_and_an_interval():
    with pytest.raises(ValueError, match="probe"):
        Watched(Moody(), [])
    with pytest.raises(ValueError, match="every=0"):
        Compared(Moody(), Moody(), every=0)


@pytest.fixture
def moods(monkeypatch):
    """The judges that were built of the kind `moody`, in order."""
    load_plugins()
    monkeypatch.setattr(registry, "_items", {kind: dict(items) for kind, items in registry._items.items()})
    built = []

    @dataclass
    class Config:
        verdict: bool = key(True, "what it says")
        weight: int = key(1, "a number", at_least=1)

    class Built(Moody):
        def __init__(self, config):
            super().__init__(config.verdict)
            self.is_closed = False
            built.append(self)

        def usage(self):
            return {"questions": self.num_asked}

        async def close(self):
            self.is_closed = True

    Built.Config = Config
    registry.register("judge", "moody")(Built)
    return built


def of_options(name, **options):
    """A judge as a configuration's section builds it, its options checked."""
    section = read_section("judge", name, [f"{dotted}={value}" for dotted, value in options.items()], "NAME")
    return build_judge(section, ["same_answer"])


TWO = {"judge.name": "moody", "second.name": "moody"}


def test_two_judges_that_agree_are_one_with_the_votes_of_both(moods):
    both = of_options("compared", **TWO, every=2)
    first, compared = asked(both, 2)
    assert (first.agreement, compared.agreement) == (0.8, pytest.approx(0.9))
    assert [one.num_asked for one in moods] == [2, 1]
    assert both.metrics() == {
        "judge/compared": 1.0,
        "judge/disagreement": 0.0,
        "judge/vote_agreement": pytest.approx(0.8),
        "judge/questions": 2.0,
        "second/judge/questions": 1.0,
    }
    asyncio.run(both.close())
    assert [one.is_closed for one in moods] == [True, True]


def test_where_two_judges_differ_the_first_is_kept_or_the_score_masked_for_good(moods):
    kept = of_options("compared", **TWO, **{"second.verdict": False}, every=1)
    assert [(reply.value["same"], reply.agreement) for reply in asked(kept, 1)] == [(True, 0.4)]
    masks = of_options("compared", **TWO, **{"second.verdict": False}, every=1, disagree="mask")
    told = asyncio.run(ask(masks, question(), dict, "trajectory g/0"))
    assert told.value is None
    assert "trajectory g/0: two judges differ: moody says" in told.failure.cause
    assert not told.failure.is_retryable, "asked again it would not be compared, and so pass"
    assert masks.metrics()["judge/disagreement"] == 1.0


def test_a_judge_is_watched_with_the_probes_of_a_file(moods, tmp_path):
    file = tmp_path / "probes.jsonl"
    lines = [{"kind": one.kind, "known": dict(one.known), "quoted": dict(one.quoted)} for one in usual_probes()]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:3]) + "\n")
    watched = of_options("watched", **{"judge.name": "moody"}, every=10, probes=file)
    asked(watched, 11)
    assert (moods[0].num_anew, watched.metrics()["judge/probe_rounds"]) == (6, 2.0)
    assert watched.metrics()["judge/questions"] == 17.0
    for text, problem in (
        ("", "holds no probe"),
        ("{}\n[1]", ":1: is no question"),
        (json.dumps(lines[0]) + "\n{", ":2: no JSON"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=problem):
            of_options("watched", **{"judge.name": "moody"}, probes=file)
    with pytest.raises(UserError, match="cannot be read"):
        of_options("watched", **{"judge.name": "moody"}, probes=tmp_path / "absent")
    file.write_text('{"kind": "prefer", "known": {}, "quoted": {}}')
    with pytest.raises(UserError, match=r"judge.judge.name=moody: this judge cannot answer prefer"):
        of_options("watched", **{"judge.name": "moody"}, probes=file)


def test_questions_that_a_second_judge_cannot_answer_are_refused_before_training(moods):
    assert Compared(Guarded(Gullible()), RuleJudge(RuleConfig())).kinds == ["same_answer", *Gullible.kinds[1:5]]
    section = read_section("judge", "compared", ["judge.name=rule", "second.name=moody"], "NAME")
    assert build_judge(section, ["same_answer"]).kinds == ["same_answer"]
    with pytest.raises(UserError, match="this judge cannot answer grade, only same_answer"):
        build_judge(section, ["grade"])


def test_an_endpoint_that_is_not_there_is_refused_inside_other_judges_too():
    away = ["judge.name=llm", "judge.model=m", "judge.base_url=http://127.0.0.1:9/v1"]
    for name in ("compared", "watched"):
        with pytest.raises(UserError, match="no model answers there"):
            build_judge(read_section("judge", name, away, "NAME"))


def test_judges_in_judges_are_options_of_a_configuration_two_levels_deep(moods):
    inner = "{name: compared, every: 3, judge: {name: moody, weight: %s}, second: {name: moody, verdict: false}}"
    word = f"rewards=[{{name: answer, judge: {{name: watched, judge: {inner}}}}}]"
    section = load_config(None, [word % 2]).config.rewards[0]
    deep = {"name": "moody", "verdict": True, "weight": 2}
    assert section["judge"]["judge"]["judge"] == deep
    assert (section["judge"]["every"], section["judge"]["judge"]["every"]) == (1000, 3)
    kind, options = build_plugin("scorer", section)
    scorer = kind(options)
    assert scorer.usage() == {
        "judge/probe_rounds": 0.0,
        "judge/compared": 0.0,
        "judge/questions": 0.0,
        "second/judge/questions": 0.0,
    }
    with pytest.raises(UserError, match=r"rewards.0.judge.judge.judge.weight=0: is too small"):
        load_config(None, [word % 0])
    with pytest.raises(UserError, match=r"rewards.0.judge.judge.judge.mood=1: no such key"):
        load_config(None, [word % "1, mood: 1"])


def test_replies_are_equal_up_to_explanations_and_a_tenth():
    assert is_equal({"same": True, "reason": "a"}, {"same": True, "reason": "b"})
    assert is_equal({"score": 10.0}, {"score": 9.5})
    assert not is_equal({"score": 10.0}, {"score": 8.0})
    assert not is_equal({"same": True}, {"same": 1})
    assert not is_equal({"S1": True}, {"S1": True, "S2": True})


def test_a_cache_forgets_the_least_recently_used_and_its_file_nothing(tmp_path):
    path = str(tmp_path / "c.sqlite")
    cache = Cache(2, path)
    for name in "abc":
        cache.put(name, {"key": name})
    assert list(cache._held) == ["b", "c"]
    assert cache.get("a") == {"key": "a"}
    assert list(cache._held) == ["c", "a"]
    assert Cache(0).get("a") is None
    other = Cache(0, path)
    assert other.get("b") == {"key": "b"}


def test_processes_that_write_one_cache_at_once_lose_nothing(tmp_path):
    path = str(tmp_path / "c.sqlite")
    caches = [Cache(0, path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda cache=cache, n=n: [cache.put(f"{n}-{i}", {"i": i}) for i in range(25)])
        for n, cache in enumerate(caches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(cache.num_errors for cache in caches) == 0
    assert all(caches[0].get(f"{n}-{i}") == {"i": i} for n in range(4) for i in range(25))
