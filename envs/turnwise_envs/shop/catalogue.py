"""What a shop has to sell, drawn from a seed: every kind of product there can be, about as often as any other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from turnwise_envs.shop.lexicon import FEATURES, MAKERS, MATERIALS, OPTIONS, PRICES, is_held_out

Kind = tuple[str, str, str]
"""Category, material and feature."""

KINDS: tuple[Kind, ...] = tuple(
    (category, material, feature)
    for category, materials in MATERIALS.items()
    for material in materials
    for feature in FEATURES
)

MOST = len(MAKERS) * sum(map(len, MATERIALS.values()))
"""Products with names of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """One product."""

    number: int  # from 1
    maker: str
    kind: Kind
    price: int
    stars: int  # 1 to 5
    options: dict[str, tuple[str, ...]]  # what it comes in

    @property
    def name(self) -> str:
        """Its name, which no other product has."""
        category, material, _ = self.kind
        return f"{self.maker} {material} {category}"

    @property
    def words(self) -> set[str]:
        """The words by which it is found."""
        return {self.maker.casefold(), *self.kind}


@dataclass(frozen=True, slots=True)
class Item:
    """A product that was put into a basket, with what was chosen of it; what was not chosen is missing."""

    product: Product
    chosen: dict[str, str] = field(default_factory=dict)
    number: int = 0  # in the basket


def draw_catalogue(seed: int, num_products: int) -> list[Product]:
    """Return the products of a shop, at least one of each kind if they are enough, in a mixed order."""
    rng = np.random.default_rng(seed)
    makers = {pair: list(rng.permutation(MAKERS)) for pair in dict.fromkeys(kind[:2] for kind in KINDS)}
    kinds = [KINDS[place] for place in rng.permutation(len(KINDS))]
    drawn = [kinds[place % len(kinds)] for place in range(num_products)]
    return [
        Product(
            number=number,
            maker=str(makers[kind[:2]].pop()),
            kind=kind,
            price=int(rng.choice(PRICES)),
            stars=int(rng.integers(1, 6)),
            options={name: _some(rng, values) for name, values in OPTIONS.items()},
        )
        for number, kind in enumerate((drawn[place] for place in rng.permutation(num_products)), 1)
    ]


def is_for(product: Product, split: str) -> bool:
    """Whether tasks of a split may be about a product."""
    return is_held_out(*product.kind) == (split == "eval")


def _some(rng: np.random.Generator, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return two or more of the values, in their order."""
    count = int(rng.integers(2, min(3, len(values)) + 1))
    chosen = set(rng.choice(len(values), count, replace=False).tolist())
    return tuple(value for place, value in enumerate(values) if place in chosen)
