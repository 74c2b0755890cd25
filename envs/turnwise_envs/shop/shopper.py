"""What helps next on the way to a goal, what has been reached of it, and the demonstrator, who errs now and then.

The shopper knows which products would do, and goes on from whatever page and basket it finds. It looks at the page as
the policy does, so that every action of its is one that the page allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from turnwise_envs.shop.catalogue import Item
from turnwise_envs.shop.goal import Goal
from turnwise_envs.web.tree import Row

BOX: Final = "Search"
_PRODUCT: Final = "/product/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistakes:
    """How often the demonstrator errs, as probabilities."""

    wrong_query: float = 0.05  # a search: for another product of the shop
    wrong_product: float = 0.1  # a product: another one of the results
    wrong_option: float = 0.1  # an option: another one of the page
    hasty: float = 0.1  # options: leaves those out that are not chosen yet
    careless: float = 0.8  # a wrong product, option or basket: goes on with it


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What there is to see, and the basket."""

    goal: Goal
    path: str
    rows: Sequence[Row]
    basket: Sequence[Item]
    leads: Callable[[str], bool]  # whether a search for a text finds what would do
    has_later: Callable[[], bool]  # whether a later page of the open results has it

    @property
    def is_on_product(self) -> bool:
        """Whether the page is of a product that would do."""
        return self.path.removeprefix(_PRODUCT) in map(str, self.goal.fitting) and self.path.startswith(_PRODUCT)

    @property
    def is_astray(self) -> bool:
        """Whether the page is of another product, or has something chosen that is not wanted."""
        chosen = {row.name for row in self.rows if row.role == "radio" and "checked" in row.states}
        is_other = self.path.startswith(_PRODUCT) and not self.is_on_product
        return is_other or not chosen <= set(self.goal.options.values())

    @property
    def links(self) -> list[Row]:
        """Links to products that would do, in results."""
        names = {one.name for one in self.goal.fitting.values()} if self.path == "/search" else set()
        return [row for row in self.rows if row.role == "link" and row.name in names]

    @property
    def unset(self) -> list[Row]:
        """Options of the product that are to be chosen yet."""
        return [row for row in self._wanted if "checked" not in row.states]

    @property
    def box(self) -> Row | None:
        """Where searches are typed."""
        return next((row for row in self.rows if row.role == "textbox" and row.name == BOX), None)

    @property
    def reached(self) -> set[str]:
        """What of the way has been reached, right now."""
        is_right = self.goal.is_met_by(self.basket)
        marks = {
            "listed": bool(self.links),
            "opened": self.is_on_product,
            **{row.name: "checked" in row.states for row in self._wanted},
            "basket": is_right,
            "checkout": is_right and self.path == "/checkout",
        }
        return {name for name, holds in marks.items() if holds}

    @property
    def _wanted(self) -> list[Row]:
        values = self.goal.options.values() if self.is_on_product else ()
        return [row for row in self.rows if row.role == "radio" and row.name in values]

    def clicks(self, name: str) -> list[str]:
        """Return the clicks on what has this name."""
        return [f"click {row.bid}" for row in self.rows if row.name == name and row.role in ("link", "button")]

    def removals(self) -> list[str]:
        """Return the clicks that take out of the basket what does not belong there; one right item stays."""
        right = next((item for item in self.basket if not self.goal.misses(item)), None)
        buttons = self.clicks("Remove")
        return [click for click, item in zip(buttons, self.basket, strict=False) if item is not right]


def num_marks(goal: Goal) -> int:
    """Return how many marks there are on the way."""
    return 4 + len(goal.options)


def helpful(scene: Scene) -> list[str]:
    """Return the actions that bring the goal nearer; a search may be put in other words."""
    if scene.goal.is_met_by(scene.basket):
        return scene.clicks({"/checkout": "Order", "/basket": "Checkout"}.get(scene.path, "Basket"))
    if scene.basket:
        return scene.removals() if scene.path == "/basket" else scene.clicks("Basket")
    if scene.is_on_product:
        return [f"click {row.bid}" for row in scene.unset] or scene.clicks("Add")
    if scene.links:
        return [f"click {row.bid}" for row in scene.links]
    if scene.path == "/search" and scene.has_later():
        return scene.clicks("Next")
    if scene.box is not None and not scene.leads(scene.box.value):
        category, material, feature = scene.goal.kind
        return [f"fill {scene.box.bid} | {material} {feature} {category}"]
    return scene.clicks("Find")


def demonstrated(rng: np.random.Generator, scene: Scene, mistakes: Mistakes, words: Sequence[str]) -> str:
    """Return the demonstrator's next action; `words`: a wrong search."""
    draw = rng.random()
    for chance, actions in _errors(scene, mistakes, words):
        draw -= chance
        if draw < 0:
            return actions[rng.integers(len(actions))] if actions else helpful(scene)[0]
    return helpful(scene)[0]


def _errors(scene: Scene, mistakes: Mistakes, words: Sequence[str]) -> list[tuple[float, list[str]]]:
    """Return what could be done wrong here, with how likely it is."""
    if scene.basket:
        following = scene.clicks({"/checkout": "Order", "/basket": "Checkout"}.get(scene.path, "Basket"))
        return [] if scene.goal.is_met_by(scene.basket) else [(mistakes.careless, following)]
    if scene.is_astray:
        return [(mistakes.careless, scene.clicks("Add"))]
    if scene.is_on_product and scene.unset:
        others = [f"click {row.bid}" for row in scene.rows if row.role == "radio" and row not in scene.unset]
        return [(mistakes.wrong_option, others), (mistakes.hasty, scene.clicks("Add"))]
    if scene.links:
        products = [row for row in scene.rows if row.role == "link" and " " in row.name]
        return [(mistakes.wrong_product, [f"click {row.bid}" for row in products if row not in scene.links])]
    if scene.box is not None and not scene.leads(scene.box.value):
        return [(mistakes.wrong_query, [f"fill {scene.box.bid} | {' '.join(words)}"])]
    return []
