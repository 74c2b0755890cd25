"""The shop's database: SQLite in memory, filled from a catalogue; a visitor has a basket and what they ordered.

One for all episodes of a process that go to the same shop, from whatever thread; visitors know nothing of each other.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnwise_envs.shop.catalogue import Item, Product

MAX_WORDS = 20
"""Words of a search that count."""

_SCHEMA = """
CREATE TABLE product (number INTEGER PRIMARY KEY, material TEXT, price INTEGER);
CREATE TABLE word (word TEXT, product INTEGER, PRIMARY KEY (word, product)) WITHOUT ROWID;
CREATE TABLE item (number INTEGER PRIMARY KEY, visit TEXT, product INTEGER, colour TEXT, size TEXT, ordered INTEGER);
CREATE INDEX visits ON item (visit);
"""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What is searched for: any of the words, those that have most of them first."""

    text: str = ""
    material: str = ""  # any
    limit: int = 0  # on the price; 0: none
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """Return what the parameters of an address ask for; what makes no sense is left out."""
        limit, page = (int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
                       for text in (given.get("price", ""), given.get("page", "")))  # fmt: skip
        text = " ".join(given.get("q", "").split())[:200]
        return cls(text=text, material=given.get("material", ""), limit=limit, page=max(1, page))


class Stock:
    """All that the shop knows."""

    def __init__(self, products: Sequence[Product], page_size: int) -> None:
        """`page_size`: products on a page of results."""
        self.products = {product.number: product for product in products}
        self.page_size = page_size
        self._lock = threading.RLock()  # a visitor may be forgotten by the garbage collector, in the middle of a query
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._base.executescript(_SCHEMA)
        rows = [(one.number, one.kind[1], one.price) for one in products]
        words = [(word, one.number) for one in products for word in one.words]
        with self._base:
            self._base.executemany("INSERT INTO product VALUES (?, ?, ?)", rows)
            self._base.executemany("INSERT INTO word VALUES (?, ?)", words)

    def search(self, query: Query) -> tuple[list[Product], bool]:
        """Return a page of results, and whether there are more."""
        words = list(dict.fromkeys(_WORD.findall(query.text.casefold())))[:MAX_WORDS]
        found = f"JOIN word ON number = product AND word IN ({', '.join('?' * len(words))})" if query.text else ""
        asked = f"""SELECT number FROM product {found}
            WHERE (? = '' OR material = ?) AND (? = 0 OR price <= ?)
            GROUP BY number ORDER BY count(*) DESC, number LIMIT ? OFFSET ?"""
        size = self.page_size
        given = (query.material, query.material, query.limit, query.limit, size + 1, (query.page - 1) * size)
        numbers = [row[0] for row in self._ask(asked, *(words if query.text else ()), *given)]
        return [self.products[number] for number in numbers[:size]], len(numbers) > size

    def add(self, visit: str, product: Product, chosen: Mapping[str, str]) -> None:
        """Put a product into a basket; what it does not come in is left out."""
        kept = [value if (value := chosen.get(name)) in product.options[name] else None for name in ("colour", "size")]
        self._ask("INSERT INTO item (visit, product, colour, size, ordered) VALUES (?, ?, ?, ?, 0)",
                  visit, product.number, *kept)  # fmt: skip

    def remove(self, visit: str, number: int) -> None:
        """Take an item out of a basket."""
        self._ask("DELETE FROM item WHERE visit = ? AND number = ? AND ordered = 0", visit, number)

    def order(self, visit: str) -> None:
        """Order what is in the basket."""
        self._ask("UPDATE item SET ordered = 1 WHERE visit = ?", visit)

    def basket(self, visit: str) -> list[Item]:
        """Return what is in a basket."""
        return self._items(visit, ordered=0)

    def bought(self, visit: str) -> list[Item]:
        """Return what was ordered."""
        return self._items(visit, ordered=1)

    def forget(self, visit: str) -> None:
        """Forget a visitor."""
        self._ask("DELETE FROM item WHERE visit = ?", visit)

    def _items(self, visit: str, ordered: int) -> list[Item]:
        asked = "SELECT number, product, colour, size FROM item WHERE visit = ? AND ordered = ? ORDER BY number"
        return [
            Item(self.products[product], {name: value for name, value in chosen if value}, number)
            for number, product, colour, size in self._ask(asked, visit, ordered)
            for chosen in [(("colour", colour), ("size", size))]
        ]

    def _ask(self, asked: str, *given: Any) -> list[Any]:
        with self._lock:
            return self._base.execute(asked, given).fetchall()
