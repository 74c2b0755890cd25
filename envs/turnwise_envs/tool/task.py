"""One task: what the user wants, which moves lead there, what must be told. Drawn from an office and shapes of wishes.

A wish's moves in order: ask for what the user keeps back, look things up, get a yes where the rules want one, act. The
last one is left out where the user says no, and nothing is done where the rules forbid it: then `REFUSED` is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from turnwise.env import ToolCall
from turnwise_envs.tool.lexicon import AMOUNTS, DAYS, words
from turnwise_envs.tool.luck import Luck
from turnwise_envs.tool.office import Office
from turnwise_envs.tool.services import Need
from turnwise_envs.tool.shapes import MAX_WISHES, Action, Shape, Source, Thing

REFUSED: Final = "refused"
"""What the answer says where the rules forbid a wish."""

_ASKING: Final = frozenset(("amount", "much", "sum", "who", "whom", "person", "name", "which", "what"))
_CLOSED_HOURS: Final = (7, 8, 18, 19, 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chances:
    """How tasks are made harder."""

    withheld: float  # how often the user keeps back what can be kept back
    refusals: float  # how often, where it can be, the user says no or the rules forbid a wish
    has_rules: bool  # whether the policy document has any


class Kind(StrEnum):
    """What a move is for."""

    ASK = "ask"  # say: what has the user kept back?
    LOOK = "look"
    CONFIRM = "confirm"  # say: may I?
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Move:
    """One call that is needed; of a say, the text is an example."""

    kind: Kind
    call: ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One thing that the user wants."""

    text: str  # in full
    shown: str  # as it stands in the request
    shape: Shape
    moves: tuple[Move, ...] = ()
    told: str = ""  # what the answer must say
    yes_to: ToolCall | None = None  # what the user is to be asked about
    is_denied: bool = False  # the user says no


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """All wishes."""

    wishes: tuple[Wish, ...]

    @property
    def request(self) -> str:
        """What the user says first."""
        return " ".join(wish.shown for wish in self.wishes)

    @property
    def kept_back(self) -> list[Wish]:
        """The wishes of which the request leaves something out."""
        return [wish for wish in self.wishes if wish.shown != wish.text]

    @property
    def moves(self) -> list[Move]:
        """All moves in order; a question or a lookup that serves several wishes stands there once."""
        found: list[Move] = []
        for move in (move for wish in self.wishes for move in wish.moves):
            is_shared = move.kind is Kind.ASK and any(other.kind is Kind.ASK for other in found)
            if not is_shared and (move.kind is not Kind.LOOK or move not in found):
                found.append(move)
        return found

    @property
    def told(self) -> list[str]:
        """What the answer must say."""
        return [wish.told for wish in self.wishes if wish.told]

    def put_by(self, text: str) -> list[Wish]:
        """Return the wishes to which a text asks the user to say yes: it has all values of the call."""
        said = words(text)
        return [wish for wish in self.wishes if wish.yes_to is not None and values_of(wish.yes_to) <= said]

    def is_question(self, text: str) -> bool:
        """Whether a text to the user asks for what is missing."""
        return not self.put_by(text) and ("?" in text or not _ASKING.isdisjoint(words(text)))

    def is_answered_by(self, text: str, findings: set[str]) -> bool:
        """Whether an answer says all that must be told and, where a person (an amount) must be, no other finding."""
        wanted, said = {word.casefold() for word in self.told}, words(text)
        texts = [wish.text for wish in self.wishes]
        known = wanted.union(*map(words, texts), *(values_of(move.call) for move in self.moves))
        kinds = {word.isdigit() for word in wanted}
        others = {word for word in findings - known if word.isdigit() in kinds}
        return wanted <= said and said.isdisjoint(others)


def values_of(call: ToolCall) -> frozenset[str]:
    """Return the words of a call's arguments in lower case."""
    return words(" ".join(map(str, call.arguments.values())))


def is_same(first: ToolCall, second: ToolCall) -> bool:
    """Whether two calls are equal but for case and space in their texts."""
    return first.name == second.name and _plain(first) == _plain(second)


def draw_task(luck: Luck, office: Office, shapes: Sequence[Shape], chances: Chances) -> Task:
    """Return a task of these shapes."""
    draft = _Draft(luck, office, chances)
    return Task(wishes=tuple(draft.wish(shape) for shape in shapes))


@dataclass(frozen=True, slots=True)
class _Found:
    """What a chain of lookups leads to."""

    value: Any
    phrase: str
    moves: tuple[Move, ...]


class _Draft:
    """Draws the wishes of one task; each is about things of its own, so that none gets in another one's way."""

    def __init__(self, luck: Luck, office: Office, chances: Chances) -> None:
        self._luck, self._office, self._chances = luck, office, chances
        self._left: dict[str, list[Thing]] = {}

    def wish(self, shape: Shape) -> Wish:
        """Return the next wish."""
        found = self._follow(shape.chain) if shape.chain else None
        if shape.action is not None:
            return self._wish_to_act(shape.action, shape, found)
        assert found is not None, "a shape without action or chain"
        text = f"Tell me {found.phrase}."
        return Wish(text=text, shown=text, shape=shape, moves=found.moves, told=str(found.value))

    def _wish_to_act(self, action: Action, shape: Shape, found: _Found | None) -> Wish:
        """Return the wish for an action, of which the last part may be kept back."""
        thing = self._thing(action.of)
        text = plain = action.phrase.format(**thing)
        last, arguments = "", dict(thing)
        for i, slot in enumerate(action.slots):
            value = found.value if found and i == shape.slot else self._named(slot.gives)
            last = slot.phrase.format(found.phrase if found and i == shape.slot else value)
            arguments[slot.parameter], text, plain = value, text + last, plain + slot.phrase.format(value)
        shown = text.removesuffix(last) if last and self._luck.chance(self._chances.withheld) else text
        asks = () if shown == text else (_say(Kind.ASK, "amount" if action.slots[-1].gives == "amount" else "who"),)
        wish = Wish(text=f"{text}.", shown=f"{shown}.", shape=shape, moves=asks + (found.moves if found else ()))
        return self._under_rules(wish, ToolCall(name=action.tool, arguments=arguments), plain)

    def _under_rules(self, wish: Wish, call: ToolCall, plain: str) -> Wish:
        """Return the wish with the moves that the rules leave for its call."""
        need = self._office.need(call) if self._chances.has_rules else Need.NOTHING
        if need is Need.NEVER:
            return replace(wish, moves=(), told=REFUSED)
        acts = (Move(Kind.ACT, call),)
        if need is Need.NOTHING:
            return replace(wish, moves=wish.moves + acts)
        is_denied = self._luck.chance(self._chances.refusals)
        moves = (*wish.moves, _say(Kind.CONFIRM, plain), *(() if is_denied else acts))
        return replace(wish, moves=moves, yes_to=call, is_denied=is_denied)

    def _follow(self, chain: Sequence[Source]) -> _Found:
        """Look a chain up, innermost first."""
        source, *inner = chain
        found = self._follow(inner) if inner else None
        thing = {"person": found.value} if found else self._thing(source.of)
        phrase = source.phrase.format(**({"person": found.phrase} if found else thing))
        call = ToolCall(name=source.tool, arguments={name: thing[name] for name in source.parameters})
        moves = (*(found.moves if found else ()), Move(Kind.LOOK, call))
        return _Found(source.find(self._office.states, thing), phrase, moves)

    def _named(self, gives: str) -> Any:
        return self._luck.pick(self._office.people) if gives == "person" else self._luck.pick(AMOUNTS)

    def _thing(self, kind: str) -> Thing:
        """Return a thing of a kind that no other wish is about; now and then an hour at which nothing may be booked."""
        if not kind:
            return {}
        if kind == "free" and self._chances.has_rules and self._luck.chance(self._chances.refusals):
            return {"day": self._luck.pick(DAYS), "hour": self._luck.pick(_CLOSED_HOURS)}
        if kind not in self._left:
            self._left[kind] = self._luck.some(self._office.things(kind), 2 * MAX_WISHES)
        return self._left[kind].pop()


def _say(kind: Kind, text: str) -> Move:
    return Move(kind, ToolCall(name="say", arguments={"text": text}))


def _plain(call: ToolCall) -> dict[str, Any]:
    return {
        name: " ".join(value.split()).casefold() if isinstance(value, str) else value
        for name, value in call.arguments.items()
    }
