"""What is to be bought: drawn from a shop's products, put into words, and compared with what was bought (WebShop)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnwise_envs.shop.catalogue import Item, Kind, Product, is_for

_SLACK = 10
"""How much above the price of the product that a goal was drawn from its limit may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """Constraints on one product."""

    kind: Kind
    options: dict[str, str]  # what is to be chosen
    limit: int  # on the price
    fitting: dict[int, Product]  # all products that would do, by number

    @property
    def text(self) -> str:
        """The task in a sentence."""
        category, material, feature = self.kind
        size, colour = self.options.get("size"), self.options.get("colour")
        said = " ".join(filter(None, (feature, material, category)))
        options = [*([f"in {colour}"] if colour else []), *([f"in size {size}"] if size else [])]
        return f"Buy a {said}{''.join(f', {one}' for one in options)}, for at most {self.limit}."

    @property
    def brief(self) -> str:
        """The task in few words."""
        category, material, feature = self.kind
        return " ".join(["buy", material, feature, category, *self.options.values(), "up to", str(self.limit)])

    def misses(self, item: Item) -> list[str]:
        """Return which of the constraints something bought does not meet."""
        product = item.product
        meets = {
            "category": product.kind[0] == self.kind[0],
            "material": product.kind[1] == self.kind[1],
            "feature": product.kind[2] == self.kind[2],
            **{name: item.chosen.get(name) == value for name, value in self.options.items()},
            "price": product.price <= self.limit,
        }
        return [name for name, is_met in meets.items() if not is_met]

    def share(self, items: Sequence[Item]) -> float:
        """Return the share of attributes, options and price met, 0 for another category.

        Of several things bought the best one counts, over their number, so that only an order of the one thing is 1.
        """
        return max(map(self._share, items)) / len(items) if items else 0.0

    def is_met_by(self, items: Sequence[Item]) -> bool:
        """Whether this is it, and nothing else."""
        return len(items) == 1 and not self.misses(items[0])

    def _share(self, item: Item) -> float:
        missed, wanted = self.misses(item), 3 + len(self.options)
        return 0.0 if "category" in missed else 1 - len(missed) / wanted


def draw_goal(rng: np.random.Generator, products: Sequence[Product], split: str, num_options: int) -> Goal:
    """Return a goal that one of the products meets which are for this split."""
    known = [one for one in products if is_for(one, split)]
    target = known[rng.integers(len(known))]
    names = sorted(rng.permutation(list(target.options))[:num_options].tolist())
    options = {name: str(rng.choice(target.options[name])) for name in names}
    limit = target.price + int(rng.integers(_SLACK))
    fitting = {
        one.number: one
        for one in products
        if one.kind == target.kind and one.price <= limit
        and all(value in one.options[name] for name, value in options.items())
    }  # fmt: skip
    return Goal(kind=target.kind, options=options, limit=limit, fitting=fitting)
