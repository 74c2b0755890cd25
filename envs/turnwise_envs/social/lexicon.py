"""The fixed words of the social worlds, and which of their combinations are held out.

Names and goods are those of the search world, which the tiny model's tokenizer knows; `social_words` lists all others,
for whoever builds a tokenizer. The words never change within a version of the environments.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from turnwise_envs.search.lexicon import NAMES


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


PEOPLE: Final = NAMES["person"]
GOODS: Final = NAMES["product"]
PLACES: Final = NAMES["place"]
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday")
SECRETS: Final = ("debt", "illness", "wedding", "lawsuit", "exam", "layoff", "promotion", "divorce")
ATTRIBUTES: Final = words(
    """red green blue yellow black white big small long short low high old new hot cold near far good bad early late
    open hidden"""
)
"""What may be asked of a place."""

_TALK: Final = """
You buy sell share meet a from to with on at the It is worth as much little you can Worth Without deal have are free
Other times cost Your secret hello offer please ask accept agreed leave hurry final thanks i get nothing want most least
about it me am not free all say see do move press that rude why will go no there we price or which what time day for my
pay guess one yes right wrong
"""


def social_words() -> list[str]:
    """List every word that the scripted texts and the demonstrators use, numbers and names apart; each once."""
    return list(dict.fromkeys([*words(_TALK), *DAYS, *SECRETS, *ATTRIBUTES]))


def is_held_out(numbers: Collection[int]) -> bool:
    """Whether a combination of words, given by their numbers, belongs to held-out tasks: one in four does."""
    return sum(numbers) % 4 == 0
