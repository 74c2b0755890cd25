"""The fixed words of the shop: what there is, of what it is made, what can be chosen, and what its short pages say.

`catalogue` and `goal` draw from them, and a tokenizer may make one token of each of `lexicon_words`; numbers are below
512. Makers bear names of the search world, which a small model knows already. The words never change within a version
of the environment: stored episodes and tokenizers depend on them.
"""

from __future__ import annotations

from typing import Final

from turnwise_envs.search.lexicon import NAMES


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MATERIALS: Final = {
    "shirt": _words("cotton linen silk wool"),
    "jacket": _words("cotton leather nylon wool"),
    "bag": _words("canvas cotton leather nylon"),
    "lamp": _words("brass glass steel wood"),
    "chair": _words("leather plastic steel wood"),
    "mug": _words("clay glass plastic steel"),
    "blanket": _words("cotton linen silk wool"),
    "shoe": _words("canvas leather nylon wool"),
    "bowl": _words("brass clay glass wood"),
    "belt": _words("canvas leather nylon silk"),
}
"""Kinds of products, with what they may be made of."""

FEATURES: Final = _words("durable handmade light recycled")
"""What else is said of a product; only its own page says it."""

OPTIONS: Final = {"colour": _words("black blue brown green red white"), "size": _words("small medium large")}
"""What can be chosen of a product, of which it comes in some."""

MAKERS: Final = NAMES["company"]

PRICES: Final = range(10, 100)
LIMITS: Final = (30, 50, 70, 90)
"""What a search may ask for at most."""

_PAGES: Final = """
link textbox button combobox option radio text heading value checked selected text
Search Find Home Basket Add Remove Checkout Order Next Colour Size Price up to nothing found here in the basket total
buy error over click fill select_option go_back element it is not on the page no name one by its number brackets
"""


def is_held_out(category: str, material: str, feature: str) -> bool:
    """Whether products of this kind are for evaluation only: of each category and material, those with one feature."""
    places = list(MATERIALS).index(category), MATERIALS[category].index(material), FEATURES.index(feature)
    return sum(places) % len(FEATURES) == 0


def lexicon_words() -> list[str]:
    """List the words of short pages, tasks and actions once each; marks and numbers are not among them."""
    materials = [word for words in MATERIALS.values() for word in words]
    options = [word for words in OPTIONS.values() for word in words]
    return list(dict.fromkeys([*_PAGES.split(), *MATERIALS, *materials, *FEATURES, *OPTIONS, *options, *MAKERS]))
