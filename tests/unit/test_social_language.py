"""What is understood of plain sentences: offers, acceptances, questions, tone and secrets."""

import pytest

from turnwise.errors import InvalidAction
from turnwise_envs.social.language import MAX_CHARS, Act, listen
from turnwise_envs.social.scenario import HOURS, PARTNER, Scenario


def scenario(kind):
    deals = {
        "price": [(price,) for price in range(20, 81)],
        "items": [(a, b) for a in range(3) for b in range(2)],
        "meeting": [(day, hour) for day in range(2) for hour in HOURS],
    }[kind]
    return Scenario(
        kind=kind,
        words={"price": ("Lantern",), "items": ("Lantern", "Matchbox"), "meeting": ("monday", "friday")}[kind],
        counts=(2, 1) if kind == "items" else (),
        gains=dict.fromkeys(deals, (1, 1)),
        goals=("", ""),
        facts=(),
        names=("Hugo", "Vera"),
        secrets=("debt", "exam"),
    )


PRICE, ITEMS, MEETING = map(scenario, ("price", "items", "meeting"))


@pytest.mark.parametrize(
    ("of", "text", "deal"),
    [
        (PRICE, "offer 45", (45,)),
        (PRICE, "How about $45?", (45,)),
        (PRICE, "I can't do 60, but forty-five is fine", (45,)),
        (PRICE, "70 is too much. I'd pay 45.00", (45,)),
        (PRICE, "no more than 45", (45,)),
        (PRICE, "instead of 62, what about 45", (45,)),  # 62 stands on the table
        (PRICE, "would you accept 45?", (45,)),
        (PRICE, "for my 2 kids i pay 45", (45,)),
        (ITEMS, "offer 1 Lantern", (1, 0)),
        (ITEMS, "offer 2 lanterns 1 matchbox", (2, 1)),
        (ITEMS, "I take both Lanterns, and you get the rest", (2, 0)),
        (ITEMS, "you can have one Lantern", (1, 1)),
        (ITEMS, "you get a matchbox and i keep all lanterns", (2, 0)),
        (ITEMS, "i want everything", (2, 1)),
        (ITEMS, "offer nothing", (0, 0)),
        (ITEMS, "two lanterns and no matchbox for me", (2, 0)),
        (MEETING, "offer friday 14", (1, 14)),
        (MEETING, "Could we meet on Friday at 2 pm?", (1, 14)),
        (MEETING, "mon 9:00, please", (0, 9)),
        (MEETING, "not monday. friday at four", (1, 16)),
    ],
)
def test_an_offer_is_understood_in_plain_sentences(of, text, deal):
    heard = listen(text, of, (62,) if of is PRICE else None)
    assert (heard.act, heard.deal) == (Act.OFFER, deal)


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("accept", Act.ACCEPT),
        ("Fine, I accept.", Act.ACCEPT),
        ("ok, deal", Act.ACCEPT),
        ("yes please", Act.ACCEPT),
        ("offer 62", Act.ACCEPT),  # what is on the table
        ("ok, i pay 62", Act.ACCEPT),
        ("i do not accept", Act.TALK),
        ("i would accept if you came down", Act.TALK),
        ("no deal", Act.TALK),
        ("a good deal is what we both want", Act.TALK),
        ("62 is a lot", Act.TALK),
        ("please", Act.TALK),
        ("yes, it is", Act.TALK),
        ("that one is nice", Act.TALK),
        ("do you accept?", Act.ASK),
        ("why 62?", Act.ASK),
        ("which one do you want", Act.ASK),
        ("ask", Act.ASK),
        ("leave", Act.LEAVE),
        ("I am leaving", Act.LEAVE),
        ("Goodbye!", Act.LEAVE),
        ("i will not leave", Act.TALK),
        ("i leave you the choice", Act.TALK),
        ("hello, nice weather", Act.TALK),
        ("\u0663\u0664 \u202e {", Act.TALK),
    ],
)
def test_the_rest_is_acceptance_question_leaving_or_talk(text, act):
    assert listen(text, PRICE, (62,)).act is act


@pytest.mark.parametrize(
    ("of", "text", "problem"),
    [
        (PRICE, "40 or 50", "which price, 40 or 50?"),
        (PRICE, "offer 1,200", "the price is from 20 to 80"),
        (ITEMS, "offer 5 Lantern", "there are 2 Lantern"),
        (ITEMS, "i take 2 lanterns and you take 2 lanterns", "there are 2 Lantern"),
        (MEETING, "monday", "at what time?"),
        (MEETING, "monday or friday at 9", "on which day?"),
        (MEETING, "offer sunday 9", "on which day?"),
        (MEETING, "offer tuesday 9", "we can meet on monday, friday at 9, 11, 14, 16"),
        (MEETING, "offer friday 10", "we can meet on monday, friday at 9, 11, 14, 16"),
    ],
)
def test_half_of_an_offer_is_answered_with_what_is_missing(of, text, problem):
    heard = listen(text, of, None)
    assert (heard.act, heard.deal, heard.problem) == (Act.UNCLEAR, None, problem)


def test_tone_and_secret_are_heard_beside_the_offer():
    assert [listen(text, PRICE, None).tone for text in ("please offer 45", "offer 45", "hurry, 45")] == [1, 0, -1]
    assert listen("you greedy liar, final offer 45", PRICE, None).tone == -2
    assert listen("please hurry: 45", PRICE, None).tone == 0
    assert listen("offer 45, I have debts", PRICE, None).tells
    assert not listen("offer 45, the exam", PRICE, None).tells  # the partner's secret
    assert listen("the exam", PRICE, None, PARTNER).tells


def test_a_partners_items_are_read_from_its_side():
    assert listen("i take 1 Lantern", ITEMS, None, PARTNER).deal == (1, 1)
    assert listen("you get 1 Lantern", ITEMS, None, PARTNER).deal == (1, 0)


@pytest.mark.parametrize("text", ["", " \n\t ", "x" * (MAX_CHARS + 1)])
def test_nothing_and_far_too_much_is_no_speech(text):
    with pytest.raises(InvalidAction):
        listen(text, PRICE, None)


def test_numbers_that_nobody_means_are_no_accident():
    assert listen("9" * 1999, PRICE, None).act is Act.TALK
    assert listen("40.50", PRICE, None).act is Act.TALK
