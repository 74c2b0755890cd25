"""`turnwise/Shop-v0`: buy what a task asks for, in a small web shop; in a real browser, or by a parser without one.

A task is drawn from its seed: a kind of product, options and a limit on the price that a product of the shop meets.
Search, open a product, choose its options, put it into the basket, check out; an order ends the episode. Rewards:

- `outcome`, at the order: the share of attributes, options and price that what was bought meets, 0 for another
  category (WebShop's reward); of several things bought the best one's, over their number;
- `progress`, for reaching for the first time what the way leads over: results that list a product which would do, its
  page, each wanted option, the right basket, the checkout with it; its share of all of them;
- `format`, -1 for an action that cannot be carried out.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from turnwise.env import tool
from turnwise.errors import InvalidAction
from turnwise.records import Message
from turnwise_envs.arguments import read_mistakes, truth, whole
from turnwise_envs.shop.app import shop
from turnwise_envs.shop.catalogue import KINDS, MOST
from turnwise_envs.shop.goal import Goal, draw_goal
from turnwise_envs.shop.lexicon import OPTIONS
from turnwise_envs.shop.shopper import Mistakes, Scene, demonstrated, helpful, num_marks
from turnwise_envs.shop.stock import Query
from turnwise_envs.web.page import Viewing
from turnwise_envs.web.plain_page import PlainPageEnv
from turnwise_envs.web.session import View

MAX_TYPED = 100
LOOKED_THROUGH = 3
"""Pages of results on which what would do may stand."""


class ShopEnv(PlainPageEnv):
    """Buy a product."""

    needs = "starlette; via=browser: Chromium, bubblewrap, playwright, uvicorn"
    sample_actions = (
        "fill 1 | cotton shirt", "click 2", "click 3", "click 4", "click 5", "click 8", "click 9", "click 11",
        "click 13", "click 15", "go_back", "select_option 6 | cotton", "click 99", "hello",
    )  # fmt: skip
    instructions = (
        "Buy what the task asks for, and nothing else. Each line of the page is an element: its number, what it is, "
        "its name, its state. Name elements by their numbers: fill 1 | cotton shirt; click 2; select_option 6 | cotton."
    )

    def __init__(
        self,
        *,
        catalogue: int = 0,
        num_products: int = 320,
        num_options: int = 2,
        compact: bool = False,
        via: str = "http",
        max_turns: int = 20,
        mistakes: Mapping[str, float] | None = None,
        observation: str | None = None,
        max_chars: int = 4000,
        coordinates: bool = False,
        screenshots: str | None = None,
        recycle: int = 200,
        unsafe_process: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Set up the shop; UserError for a value that does not fit, and where what it needs is not installed.

        `catalogue`: the seed of its products. `num_options` that a task wants. `compact`: few words on a page.
        `via`: "http" or "browser". `observation`: as in `Viewing`; None: "brief" if compact, else "tree".
        """
        viewing = Viewing(
            observation=observation or ("brief" if truth("compact", compact) else "tree"),
            max_chars=max_chars,
            coordinates=coordinates,
            screenshots=screenshots,
            recycle=recycle,
            unsafe_process=unsafe_process,
        )
        whole("catalogue", catalogue, 0, 2**31 - 1)
        whole("num_products", num_products, len(KINDS), MOST)
        self._num_options = whole("num_options", num_options, 0, len(OPTIONS))
        self._is_brief, self._mistakes = compact, read_mistakes(Mistakes, mistakes)
        self._shop = shop(catalogue, num_products, is_compact=compact)
        super().__init__(self._shop.app, viewing, render_mode, via=via)
        self.max_turns = whole("max_turns", max_turns, 1, 1000)
        self._visit = secrets.token_hex(8)
        self._goal = Goal(kind=KINDS[0], options={}, limit=0, fitting={})
        self._reached: set[str] = set()
        self._wrongs: list[str] = []  # of what was bought
        weakref.finalize(self, self._shop.stock.forget, self._visit).atexit = False

    def begin(self, options: Mapping[str, Any]) -> Message:
        """Draw a goal, and enter the shop with an empty basket."""
        split = "eval" if options.get("split") == "eval" else "train"
        products = list(self._shop.stock.products.values())
        self._goal = draw_goal(self.np_random, products, split, self._num_options)
        self._reached, self._wrongs = set(), []
        self._shop.stock.forget(self._visit)
        self.enter(f"/enter/{self._visit}", options)
        return self.begun(self._goal.brief if self._is_brief else f"task: {self._goal.text}")

    @tool
    def fill(self, bid: str, text: str) -> str:
        """Enter a text into a field, instead of what is there."""
        if len(text) > MAX_TYPED or not text.isprintable():
            raise InvalidAction(f"fill needs text to be a line of at most {MAX_TYPED} characters that can be printed")
        return super().fill(bid, text)

    def judge(self, view: View) -> bool:
        """Reward what was reached for the first time, and what was ordered."""
        scene = self._scene()
        gained = scene.reached - self._reached
        if gained:
            self._reached |= gained
            self.reward("progress", len(gained) / num_marks(self._goal))
        bought = self._shop.stock.bought(self._visit)
        if bought:
            self._wrongs = list(dict.fromkeys(name for item in bought for name in self._goal.misses(item)))
            self._wrongs += ["more than one thing"] if len(bought) > 1 else []
            self.reward("outcome", self._goal.share(bought))
            self.finish()
        return bool(bought)

    def oracle(self, action: str) -> float:
        """Return 1 for an action that brings the goal nearer, -1 for a malformed one, 0 for any other."""
        try:
            call = self.read_call({"role": "assistant", "content": action})
        except InvalidAction:
            return -1.0
        right = [self.read_call({"role": "assistant", "content": one}) for one in helpful(self._scene())]
        if call.name == "fill" and right and right[0].name == "fill":
            text = str(call.arguments["text"])
            is_box = call.arguments["bid"] == right[0].arguments["bid"]
            return float(is_box and len(text) <= MAX_TYPED and text.isprintable() and self._leads(text))
        return float(call in right)

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return a fallible shopper's next action."""
        return demonstrated(rng, self._scene(), self._mistakes, KINDS[rng.integers(len(KINDS))])

    def state_key(self) -> str:
        """Return a digest of the goal, the page, the basket and what has been reached."""
        chosen = [(item.product.number, item.chosen) for item in self._shop.stock.basket(self._visit)]
        parts = (super().state_key(), urlsplit(self.view.url).query, repr(chosen), ",".join(sorted(self._reached)))
        return blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()

    def gold(self) -> dict[str, Any]:
        """Return the task as the question, what it wants, and the products that would do."""
        goal = self._goal
        category, material, feature = goal.kind
        wanted = {"category": category, "material": material, "feature": feature, **goal.options, "price": goal.limit}
        names = [product.name for product in goal.fitting.values()]
        return {"question": goal.text, "answer": names[0], "wanted": wanted, "products": names}

    def guide(self) -> str | None:
        """Return which constraints what was bought does not meet, or how far the attempt came; no product's name."""
        if self._goal.is_met_by(self._shop.stock.bought(self._visit)):
            return None
        if self._wrongs:
            return f"not as wanted: {', '.join(self._wrongs)}"
        steps = ["listed", "opened", *self._goal.options.values(), "basket", "checkout"]
        left = [step for step in steps if step not in self._reached]
        return f"nothing was ordered; not reached: {', '.join(left)}" if left else "nothing was ordered"

    def close(self) -> None:
        """Leave the shop, and the browser."""
        self._shop.stock.forget(self._visit)
        super().close()

    def _scene(self) -> Scene:
        return Scene(
            goal=self._goal,
            path=urlsplit(self.view.url).path,
            rows=self.view.rows,
            basket=self._shop.stock.basket(self._visit),
            leads=self._leads,
            has_later=self._has_later,
        )

    def _leads(self, text: str) -> bool:
        return self._lists(Query.of({"q": text}))

    def _has_later(self) -> bool:
        query = Query.of(dict(parse_qsl(urlsplit(self.view.url).query)))
        return self._lists(replace(query, page=query.page + 1))

    def _lists(self, query: Query) -> bool:
        """Whether a search finds what would do, on this page of its results or one of the next ones."""
        pages = (replace(query, page=query.page + further) for further in range(LOOKED_THROUGH))
        return any(one.number in self._goal.fitting for page in pages for one in self._shop.stock.search(page)[0])
