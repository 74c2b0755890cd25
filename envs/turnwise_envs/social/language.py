"""What an utterance does (offer, accept, ask, leave, talk), how polite it is, and whether it tells a secret.

A small controlled language, read the same from the agent and from a partner that is a model. Numbers (digits or words),
items and times are understood in plain sentences; a clause with a negation, or that begins as a question, makes no
offer. `offer 45`, `offer 2 Lantern 1 Juicer`, `offer monday 14`, `accept`, `ask` and `leave` always work. What is not
understood is small talk, and what is understood by half is answered with what is missing. It does not judge truth, and
a secret that is paraphrased is not noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from turnwise.errors import InvalidAction
from turnwise_envs.social.lexicon import DAYS, words
from turnwise_envs.social.scenario import AGENT, HOURS, Deal, Scenario

MAX_CHARS = 2000

_CLAUSE = re.compile(r"(?<=\?)|[.;:!,]+(?:\s+|$)|\bbut\b|\n")
_TOKEN = re.compile(r"\d+(?:[.:,]\d+)*|[a-z]+", re.ASCII)
_AT_MOST = re.compile(r"\b(?:no|not) (?:more|less|lower|higher|later|earlier) than\b")
_TOO = re.compile(r"\btoo (?=much|high|low|little|few|many|expensive|cheap|early|late)")
_NEGATIONS = frozenset(
    words("no not never cannot cant dont wont without neither isnt doesnt wouldnt couldnt refuse reject")
)
_INTERROGATIVES = frozenset(("what", "which", "why", "who", "when", "where", "how"))
_LEAVING = re.compile(
    r"^leave$|\bi (?:will |am |must |have to )?(?:leave|leaving|quit)(?: now)?$|\b(?:bye|goodbye|good bye|walk away)\b"
)
_ACCEPTING = frozenset(("accept", "accepted", "agree", "agreed"))
_ASSENT = frozenset(("yes", "yeah", "yep", "ok", "okay", "fine", "sure", "deal"))
_WITH_ASSENT = _ASSENT | frozenset(words("good great sounds that it its a works for me with please thanks then"))
_CONDITIONS = frozenset(("if", "would", "could", "unless", "almost"))
_OFFERING = _ACCEPTING | _ASSENT | frozenset(words("offer propose pay take give get have sell buy meet"))
_POLITE = frozenset(words("please thank thanks appreciate sorry kind kindly glad pleasure"))
_INSULTS = frozenset(words("stupid idiot greedy liar fool ridiculous nonsense hate pathetic"))
_PRESSURE = re.compile(
    r"\b(?:final offer|last chance|now or never|take it or leave it|or else|hurry|you must|you have to|ultimatum)\b"
)
_ONES = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
_SMALL = {word: value for value, word in enumerate(_ONES)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}

Token = int | str


class _UnclearError(Exception):
    """A deal that is not whole, or not possible; says what is missing."""


class Act(StrEnum):
    """What an utterance does."""

    OFFER = "offer"
    ACCEPT = "accept"
    LEAVE = "leave"
    ASK = "ask"
    TALK = "talk"
    UNCLEAR = "unclear"  # a deal that is not whole, or not possible


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An utterance, understood."""

    act: Act
    deal: Deal | None = None  # that is offered
    problem: str = ""  # what is missing from a deal that is unclear
    tone: int = 0  # 1 polite, -1 pressing, -2 insulting; together at least -2
    tells: bool = False  # the speaker's own secret


def listen(text: str, scenario: Scenario, table: Deal | None, side: int = AGENT) -> Heard:
    """Return what a side's utterance does; `table` is the other's offer that stands. InvalidAction if it is no speech.

    An offer of what the other offers already accepts it.
    """
    if not text.strip():
        raise InvalidAction("say something")
    if len(text) > MAX_CHARS:
        raise InvalidAction(f"too long; at most {MAX_CHARS} characters")
    plain = _plain(text, scenario)
    tokens = _tokens(plain)
    secret = scenario.secrets[side]
    tone = bool(_POLITE & set(tokens)) - bool(_PRESSURE.search(plain)) - 2 * bool(_INSULTS & set(tokens))
    tells = any(isinstance(word, str) and word in (secret, f"{secret}s") for word in tokens)
    act, deal, problem = _act(plain, tokens, scenario, table, side)
    return Heard(act=act, deal=deal, problem=problem, tone=max(-2, tone), tells=tells)


def _act(
    plain: str, tokens: Sequence[Token], scenario: Scenario, table: Deal | None, side: int
) -> tuple[Act, Deal | None, str]:
    clauses = [clause.strip() for clause in _CLAUSE.split(plain)]
    said = [clause for clause in clauses if not _NEGATIONS & set(_tokens(clause))]
    if any(map(_LEAVING.search, said)):
        return Act.LEAVE, None, ""
    try:
        deal = _deal([_tokens(clause) for clause in said if not _is_question(clause)], scenario, table, side)
    except _UnclearError as error:
        return Act.UNCLEAR, None, str(error)
    if deal is not None and deal != table:
        return Act.OFFER, deal, ""
    if table is not None and _accepts(said, is_named=deal is not None):
        return Act.ACCEPT, table, ""
    if table is not None and len(said) == len(clauses) and _assents(plain, tokens):
        return Act.ACCEPT, table, ""
    is_asked = "?" in plain or "ask" in tokens or any(map(_is_question, clauses))
    return (Act.ASK if is_asked else Act.TALK), None, ""


def _accepts(said: Sequence[str], *, is_named: bool) -> bool:
    """Whether a clause without a condition accepts; where it names the other's terms, offering them will do."""
    firm = (set(_tokens(clause)) for clause in said if not clause.endswith("?"))
    return any(tokens & (_OFFERING if is_named else _ACCEPTING) for tokens in firm if not tokens & _CONDITIONS)


def _assents(plain: str, tokens: Sequence[Token]) -> bool:
    """Whether all that is said is a yes."""
    return "?" not in plain and bool(_ASSENT & set(tokens)) and set(tokens) <= _WITH_ASSENT


def _deal(clauses: Sequence[list[Token]], scenario: Scenario, table: Deal | None, side: int) -> Deal | None:
    """Return the deal that clauses speak of, None if of none; _UnclearError says what is missing."""
    if scenario.kind == "items":
        return _items(clauses, scenario, side)
    tokens = [token for clause in clauses for token in clause]
    numbers = {token for token in tokens if isinstance(token, int)}
    return _price(numbers, scenario, table) if scenario.kind == "price" else _time(tokens, numbers, scenario)


def _price(numbers: set[int], scenario: Scenario, table: Deal | None) -> Deal | None:
    known = sorted(price for price in numbers if (price,) in scenario.gains)
    if len(known) > 1 and table is not None:
        known = [price for price in known if (price,) != table]
    if len(known) == 1 or not numbers:
        return (known[0],) if known else None
    if known:
        raise _UnclearError(f"which price, {' or '.join(map(str, known))}?")
    raise _UnclearError(f"the price is from {min(scenario.gains)[0]} to {max(scenario.gains)[0]}")


def _time(tokens: Sequence[Token], numbers: set[int], scenario: Scenario) -> Deal | None:
    days = {day for day in DAYS if any(isinstance(word, str) and word in (day, day[:3], f"{day}s") for word in tokens)}
    hours = {hour if hour in HOURS else hour + 12 for hour in numbers}
    if not days and not hours:
        return None
    if not days <= set(scenario.words) or not hours <= set(HOURS):
        raise _UnclearError(f"we can meet on {', '.join(scenario.words)} at {', '.join(map(str, HOURS))}")
    if len(days) != 1 or len(hours) != 1:
        raise _UnclearError("on which day?" if len(days) != 1 else "at what time?")
    return (scenario.words.index(days.pop()), hours.pop())


def _items(clauses: Sequence[list[Token]], scenario: Scenario, side: int) -> Deal | None:
    """Return what the agent gets: what is not named goes to the other than the one who is spoken of."""
    gets: dict[tuple[bool, int], int] = {}  # (the speaker, kind) -> number
    for is_mine, kind, count in _amounts(clauses, scenario):
        gets[is_mine, kind] = count
    if not gets:
        return None
    is_of_speaker = any(is_mine for is_mine, _ in gets)
    speaker = []
    for kind, most in enumerate(scenario.counts):
        mine, theirs = gets.get((True, kind)), gets.get((False, kind))
        unnamed = 0 if is_of_speaker else most
        count = mine if mine is not None else unnamed if theirs is None else most - theirs
        if not 0 <= count <= most or (theirs is not None and count + theirs != most):
            raise _UnclearError(f"there are {most} {scenario.words[kind]}")
        speaker.append(count)
    return tuple(speaker if side == AGENT else (most - n for most, n in zip(scenario.counts, speaker, strict=True)))


def _amounts(clauses: Sequence[list[Token]], scenario: Scenario) -> Iterator[tuple[bool, int, int]]:
    """Yield (whether the speaker gets it, kind, number) for each item with a number before it."""
    kinds = {form: i for i, word in enumerate(scenario.words) for form in _forms(word)}
    is_mine = True
    for clause in clauses:
        number: int | None = None
        for token in clause:
            if isinstance(token, int):
                number = token
            elif token in ("i", "me", "my", "mine", "you", "your", "yours"):
                is_mine = token[0] != "y"
            elif token in ("everything", "nothing"):
                counts = scenario.counts if token == "everything" else [0] * len(scenario.counts)
                yield from ((is_mine, kind, count) for kind, count in enumerate(counts))
            elif token in ("a", "an", "one", "all", "both"):
                number = {"both": 2, "all": -1}.get(token, 1)
            elif token in kinds and number is not None:
                yield is_mine, kinds[token], scenario.counts[kinds[token]] if number == -1 else number
                number = None


def _forms(word: str) -> tuple[str, ...]:
    return word.lower(), f"{word.lower()}s", f"{word.lower()}es"


def _plain(text: str, scenario: Scenario) -> str:
    """Return a text in small letters, without apostrophes, and with what only looks like a negation in other words."""
    plain = text.lower().replace("'", "").replace("\u2019", "")
    plain = _TOO.sub("not ", _AT_MOST.sub("at", plain))
    if scenario.kind != "items":
        return plain
    forms = "|".join(form for word in scenario.words for form in _forms(word))
    return re.sub(rf"\bno (?=(?:{forms})\b)", "0 ", plain)


def _is_question(clause: str) -> bool:
    """Whether a clause asks; `how about` and `what if` propose."""
    first, second = [*clause.split()[:2], "", ""][:2]
    return first in _INTERROGATIVES and second not in ("about", "if")


def _tokens(text: str) -> list[Token]:
    """Return words and whole numbers, `forty five` as 45, `1,200` as 1200, `14:00` and `2 pm` as 14."""
    found: list[Token] = []
    for token in _TOKEN.findall(text):
        value = _SMALL.get(token) if token.isalpha() else _number(token)
        last = found[-1] if found else ""
        if token.isalpha() and value is not None and value < 10 and isinstance(last, int) and last in range(20, 91, 10):
            found[-1] = last + value
        elif token == "one":
            found.append(token)  # more often a pronoun than a number
        elif token == "pm" and isinstance(last, int) and last < 12:
            found[-1] = last + 12
        else:
            found.append(token if value is None else value)
    return found


def _number(token: str) -> int | None:
    """Return a whole number; None for a fraction, and for what is too long to be meant."""
    digits = token.removesuffix(":00").removesuffix(".00").replace(",", "")
    return int(digits) if digits.isdigit() and len(digits) < 10 else None
