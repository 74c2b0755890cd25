"""Turns verified by what they read: relevant pages, information gained, beliefs that came true."""

import json

import pytest
from golden_cases import expected, inputs
from verified_pieces import broken, called, causes, group, judge, scores_of, table, turn

from turnwise.env.beliefs import split_belief
from turnwise_rewards.verified.belief import Belief, BeliefConfig, prediction_agreement, state_agreement
from turnwise_rewards.verified.information_gain import InformationGain, InformationGainConfig
from turnwise_rewards.verified.relevance import Relevance, RelevanceConfig

GOLD = {"question": "Which is the twin of Naples?", "pages": ["Naples notes", "Geneva notes"]}


def opened(page, observation=""):
    return called("open", observation, page=page)


def walk(*pages, texts=None):
    """An episode that opens pages, one after another, and answers."""
    shown = ["the question", *(texts or [f"text of {page.casefold()}" for page in pages])]
    return [
        *(opened(page, seen) for page, seen in zip(pages, shown, strict=False)),
        called("answer", shown[-1], text="Geneva"),
    ]


def relevance(**options):
    return Relevance(RelevanceConfig(**options))


def test_a_gold_page_is_relevant_and_another_is_not():
    of = group(walk("Naples notes", "Rome", "geneva  NOTES"), gold=GOLD)
    assert table(scores_of(relevance(), of)) == {(0, 0): 1.0, (0, 1): 0.0, (0, 2): 1.0}


def test_opening_a_page_again_and_again_gains_nothing():
    once = table(scores_of(relevance(), group(walk("Naples notes"), gold=GOLD)))
    many = table(scores_of(relevance(), group(walk(*["Naples notes", "naples notes "] * 5), gold=GOLD)))
    assert sum(many.values()) == sum(once.values()) == 1.0
    asked = relevance(by="judge", judge=judge(lambda question: {"relevant": True}))
    other = walk("Naples notes", "Naples (notes)", texts=["the same text"] * 2)
    assert table(scores_of(asked, group(other, gold=GOLD))) == {(0, 0): 1.0, (0, 1): 0.0}
    assert len(asked.judge.questions) == 1


def test_a_judge_of_pages_that_fails_masks_its_own_turn_alone():
    def answer(question):
        return broken(question) if question.quoted["page"] == "Rome" else {"relevant": question.quoted["text"] == "t"}

    of = group(walk("A", "Rome", "B", texts=["t", "u", "v"]), gold={"question": "q", "answer": "42"})
    scorer = relevance(by="judge", judge=judge(answer), max_chars=5)
    assert table(scores_of(scorer, of)) == {(0, 0): 1.0, (0, 1): None, (0, 2): 0.0}
    assert scorer.judge.questions[0].known == {"question": "q", "answer": "42"}


def test_a_word_is_no_verdict():
    of = group(walk("A"), gold=GOLD)
    scores = scores_of(relevance(by="judge", judge=judge(lambda question: {"relevant": "no"})), of)
    assert "not true or false" in causes(scores)[0, 0]


def test_pages_without_gold_are_missing_and_a_refused_call_opens_nothing():
    assert "names no `pages`" in causes(scores_of(relevance(), group(walk("A"))))[0, 0]
    refused = [turn("open Nowhere", valid=False), turn("end")]
    assert scores_of(relevance(), group(refused, gold=GOLD)) == []


def gain(**options):
    return InformationGain(InformationGainConfig(**options))


def test_the_scores_of_an_episode_add_up_to_the_share_of_gold_pages_it_opened():
    straight = walk("Naples notes", "Geneva notes")
    circles = walk(*["Naples notes", "Rome", "Naples notes"] * 4, "Geneva notes", "geneva notes")
    half = walk(*["Naples notes"] * 20)
    found = table(scores_of(gain(), group(straight, circles, half, gold=GOLD)))
    sums = [sum(value for place, value in found.items() if place[0] == k) for k in range(3)]
    assert sums == [1.0, 1.0, 0.5]
    assert [found[1, t] for t in (0, 1, 2, 12)] == [0.5, 0.0, 0.0, 0.5]
    assert min(found.values()) == 0.0


FACTS = {"question": "Where?", "facts": ["Naples has a twin: Geneva.", "Geneva lives on watches", "where"]}


def read(*observations, actions=None, valid=True):
    return [
        turn(action, seen, valid=valid)
        for seen, action in zip(observations, actions or ["go on"] * len(observations), strict=True)
    ]


def test_facts_count_when_they_were_read_and_not_when_they_stood_in_the_question():
    found = scores_of(
        gain(of="facts"), group(read("Where?", "naples has a TWIN, Geneva", "geneva lives on watches"), gold=FACTS)
    )
    assert table(found) == {(0, 0): 0.5, (0, 1): 0.5, (0, 2): 0.0}
    assert found[0].evidence == "new: naples has a twin geneva; 1/2"


def test_what_an_answer_echoes_is_not_seen():
    gold = {"question": "Where?", "rubrics": [{"entities": ["Geneva", "New York"]}, {"entities": ["Rome"]}]}
    echoed = read("Where?", "no results for Geneva", "Rome", actions=["search Geneva", "on", "end"])
    assert table(scores_of(gain(of="entities"), group(echoed, gold=gold))) == {
        (0, 0): 0.0,
        (0, 1): pytest.approx(1 / 3),
        (0, 2): 0.0,
    }
    refused = read("Where?", "error: no page New York", "x", valid=False)
    assert sum(table(scores_of(gain(of="entities"), group(refused, gold=gold))).values()) == 0.0


def test_a_task_with_nothing_to_find_is_missing():
    for of, gold in (
        ("pages", {}),
        ("entities", {"rubrics": []}),
        ("facts", {"question": "Where?", "facts": ["where"]}),
    ):
        assert "the task's gold names no" in causes(scores_of(gain(of=of), group(read("a"), gold=gold)))[0, None]


def believed(observation="", *, valid=True, form=json.dumps, events=None, **belief):
    return turn(f"<belief>{form(belief)}</belief> go", observation, valid=valid, **(events or {}))


def beliefs(*turns, gold=None, **options):
    return table(scores_of(Belief(BeliefConfig(**options)), group(turns, gold=gold)))


def test_the_formula_is_rebels_golden():
    given = inputs("rebel_rcons")
    told = {"belief__state": given["r_state"], "belief__task": given["r_task"], "belief__prediction": given["r_pred"]}
    found = beliefs(believed(events=told, state=["x"]), by="events")
    assert found[0, 0] == pytest.approx(expected("rebel_rcons")["r_cons"])


def test_a_part_that_the_tracker_could_not_tell_is_missing_unless_it_weighs_nothing():
    told = {"belief__state": 0.5, "belief__prediction": 0.0}
    scores = scores_of(Belief(BeliefConfig(by="events")), group([believed(events=told)]))
    assert "could not tell task" in causes(scores)[0, 0]
    assert beliefs(believed(events=told), by="events", task=0.0)[0, 0] == pytest.approx(0.2 + 0.001)


def test_without_a_readable_belief_only_the_form_counts():
    for action in ("go", "<belief>{</belief>", "<belief>[1]</belief>", "<belief>{}</belief><belief>{}</belief>"):
        assert split_belief(action)[0] is None
        assert beliefs(turn(action), turn("end", "seen"), task=0.0) == {(0, 0): pytest.approx(-0.005)}
    assert beliefs(turn("go", valid=False), turn("end"), task=0.0)[0, 0] == pytest.approx(-0.007)
    assert beliefs(believed(), turn("end"), task=0.0)[0, 0] == pytest.approx(0.001)


def test_news_that_come_true_count_and_the_last_turn_has_no_score():
    first = believed("You are in the hall.", state=["a lamp is lit", "a cat sleeps"], prediction="kitchen stove")
    found = beliefs(first, turn("end", "You are in the kitchen. A lamp is lit."), task=0.0)
    assert found == {(0, 0): pytest.approx(0.4 * (0.5 - 0.1) + 0.2 * 0.5 + 0.001)}


def test_a_belief_that_restates_what_was_read_or_its_form_earns_nothing():
    seen = "You are in the hall. Exits: north, south. Score: 0 of 10."
    following = "You are in the kitchen. Exits: north, south. Score: 0 of 10."
    form = {
        "state": ["You are in the", "Exits: north, south", "Score: 0 of 10"],
        "prediction": "You are in. Exits Score",
    }
    pasted = beliefs(believed(seen, **form), turn("end", following), task=0.0)
    empty = beliefs(believed(seen), turn("end", following), task=0.0)
    assert pasted == empty
    honest = beliefs(believed(seen, prediction="kitchen"), turn("end", following), task=0.0)
    assert honest[0, 0] > pasted[0, 0] + 0.1


def test_guessing_everything_is_worth_less_than_a_right_guess():
    after = {"kitchen", "stove"}
    words = [f"word{k}" for k in range(50)]
    assert prediction_agreement(["kitchen"], set(), after) == 1.0
    assert prediction_agreement(["kitchen", *words], set(), after) == pytest.approx(1 / 51)
    assert state_agreement(["kitchen", *words], set(), after) == -1.0


def test_foretelling_an_error_that_one_makes_earns_nothing():
    foretold = believed("go", valid=False, prediction="error unknown tool", state=["error unknown tool"])
    found = beliefs(foretold, turn("end", "error: unknown tool"), task=0.0)
    assert found[0, 0] < 0


def test_the_phase_is_the_last_one_that_was_reached():
    gold = {"phases": {"search": [], "read": ["Title:"], "answer": ["Geneva"]}}
    for phase, right in (("read", 1.0), (" READ ", 1.0), ("search", 0.0), ("answer", 0.0), (None, 0.0)):
        turns = (believed("go", task=phase), turn("end", "title: Naples"))
        assert beliefs(*turns, gold=gold)[0, 0] == pytest.approx(0.3 * right + 0.001)
    scores = scores_of(Belief(BeliefConfig()), group([believed("go"), turn("end")]))
    assert "no `phases`" in causes(scores)[0, 0]
