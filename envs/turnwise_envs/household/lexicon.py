"""The fixed words of the household: receptacles, things, treatments and rooms.

`task` draws from them, and a tokenizer may make one token of each of `lexicon_words`. The words never change within a
version of the environment: stored episodes and tokenizers depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomKind:
    """What a kind of room has."""

    fixtures: tuple[str, ...]  # kinds of receptacles of which there is one each
    others: tuple[str, ...]  # kinds of which there may be several
    things: tuple[str, ...]  # kinds of things
    has_lamp: bool = False


LAMP: Final = "desklamp"
"""A thing that lies somewhere and is too heavy to take."""

TREATMENTS: Final = {"clean": ("sinkbasin", "clean"), "heat": ("microwave", "hot"), "cool": ("fridge", "cool")}
"""Verb to the kind of receptacle that does it, and to what a thing then is."""

LIT: Final = "lit"
"""What a thing is that was held under a lamp."""

OPENABLE: Final = frozenset(_words("fridge microwave cabinet drawer safe"))
"""Kinds of receptacles that are closed at first."""

TREATABLE: Final = {
    "clean": frozenset(_words("apple lettuce tomato potato mug plate bowl pan fork soap cloth sponge cup razor")),
    "heat": frozenset(_words("apple bread egg tomato potato mug plate cup")),
    "cool": frozenset(_words("apple bread egg lettuce tomato potato mug plate bowl pan cup")),
}
"""Verb to the kinds of things that it can be done to."""

ROOMS: Final = {
    "kitchen": RoomKind(
        fixtures=_words("fridge microwave sinkbasin"),
        others=_words("cabinet countertop diningtable drawer shelf"),
        things=_words("apple bread egg lettuce tomato potato mug plate bowl pan fork cup"),
    ),
    "bathroom": RoomKind(
        fixtures=_words("sinkbasin"),
        others=_words("bathtub cabinet countertop drawer shelf"),
        things=_words("soap cloth sponge cup razor candle towel bottle"),
    ),
    "bedroom": RoomKind(
        fixtures=_words("desk"),
        others=_words("bed drawer dresser safe shelf"),
        things=_words("book pen laptop keys watch pillow phone card"),
        has_lamp=True,
    ),
    "livingroom": RoomKind(
        fixtures=_words("sidetable"),
        others=_words("armchair cabinet coffeetable drawer shelf sofa"),
        things=_words("book newspaper vase statue remote box keys watch"),
        has_lamp=True,
    ),
}
"""Rooms by kind."""

FORMS: Final = {
    "go": "go to PLACE",
    "open": "open PLACE",
    "close": "close PLACE",
    "take": "take THING from PLACE",
    "put": "put THING in PLACE",
    "clean": "clean THING with PLACE",
    "heat": "heat THING with PLACE",
    "cool": "cool THING with PLACE",
    "use": "use THING",
    "look": "look",
    "inventory": "inventory",
}
"""Verb to how its command is written."""

NOTHING: Final = "Nothing happens."
"""The answer to a command that can be read and cannot be carried out."""

_PLAIN: Final = """You are in a the to arrive at see nothing It is closed take put from with in turn on carry Your task
two under happens Nothing Done error unknown command expected one of find place light holding searched Commands"""


def lexicon_words() -> tuple[str, ...]:
    """Return every word of observations, commands and beliefs, but for numbers, marks and `FORMS`' capitals."""
    kinds = [word for room in ROOMS.values() for word in (*room.fixtures, *room.others, *room.things)]
    verbs = [word for form in FORMS.values() for word in form.split() if word.islower()]
    states = [state for _, state in TREATMENTS.values()]
    return tuple(dict.fromkeys([*_PLAIN.split(), *verbs, *states, LIT, LAMP, *ROOMS, *kinds]))
