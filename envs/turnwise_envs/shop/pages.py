"""The shop's pages: plain HTML, links and forms, no scripts. In two lengths: for people, and for small models."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode

from turnwise_envs.shop.catalogue import Item, Product
from turnwise_envs.shop.lexicon import LIMITS, MATERIALS
from turnwise_envs.shop.stock import Query

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title><style>body {{ font: 14px sans-serif }}</style></head>
<body><form action="/search" autocomplete="off"><label>Search <input name="q" value="{text}"></label>
<button>Find</button></form>
<nav>{links}</nav><main>{content}</main></body></html>
"""

_CATEGORIES = tuple(MATERIALS)
_MATERIALS = sorted({word for words in MATERIALS.values() for word in words})


class Pages:
    """Writes pages; `is_compact`: few words on each."""

    def __init__(self, *, is_compact: bool) -> None:
        self._is_compact = is_compact

    def home(self) -> str:
        """Where a visit begins."""
        if self._is_compact:
            return self._page("")
        links = "".join(f"<li>{_link(f'/search?q={name}', name)}</li>" for name in _CATEGORIES)
        return self._page(f"<h1>Welcome</h1><p>What are you looking for?</p><ul>{links}</ul>")

    def results(self, query: Query, found: Sequence[Product], *, has_more: bool) -> str:
        """What a search found."""
        items = "".join(f"<li>{_link(f'/product/{one.number}', one.name)}{self._row(one)}</li>" for one in found)
        more = {"q": query.text, "material": query.material, "price": query.limit or "", "page": query.page + 1}
        following = _link(f"/search?{urlencode(more)}", "Next") if has_more else ""
        shown = f"<ul>{items}</ul>" if found else "<p>nothing found</p>"
        return self._page(f"{self._filters(query)}{shown}{following}", query.text)

    def product(self, product: Product) -> str:
        """One product."""
        _, material, feature = product.kind
        said = f"<p>{material} {feature} {product.price}</p>"
        if not self._is_compact:
            said = (
                f"<p>Price: {product.price}. Rated {product.stars} of 5.</p>"
                f"<p>Material: <b>{material}</b>. This {product.kind[0]} is {feature}.</p>"
            )
        choices = "".join(self._choice(name, values) for name, values in product.options.items())
        hidden = f'<input type="hidden" name="product" value="{product.number}">'
        form = f'<form method="post" action="/basket" autocomplete="off">{hidden}{choices}<button>Add</button></form>'
        return self._page(f"<h1>{product.name}</h1>{said}{form}")

    def basket(self, items: Sequence[Item]) -> str:
        """What is in the basket."""
        if not items:
            return self._page("<p>nothing in the basket</p>")
        rows = "".join(
            f'<li>{_item(one)}<form method="post" action="/remove" autocomplete="off">'
            f'<input type="hidden" name="item" value="{one.number}"><button>Remove</button></form></li>'
            for one in items
        )
        return self._page(f"{self._title('Basket')}<ul>{rows}</ul>{_link('/checkout', 'Checkout')}")

    def checkout(self, items: Sequence[Item]) -> str:
        """What would be ordered."""
        if not items:
            return self.basket(items)
        rows = "".join(f"<li>{_item(one)}</li>" for one in items)
        total = f"<p>total {sum(one.product.price for one in items)}</p>"
        form = '<form method="post" action="/order" autocomplete="off"><button>Order</button></form>'
        return self._page(f"{self._title('Checkout')}<ul>{rows}</ul>{total}{form}")

    def thanks(self) -> str:
        """What was ordered comes."""
        return self._page("<h1>Thank you</h1><p>Your order is on its way.</p>")

    def missing(self) -> str:
        """There is no such page."""
        return self._page("<p>nothing here</p>")

    def _page(self, content: str, text: str = "") -> str:
        links = [*([] if self._is_compact else [_link("/", "Home")]), _link("/basket", "Basket")]
        return _PAGE.format(content=content, text=escape(text), links="\n".join(links))

    def _title(self, text: str) -> str:
        return "" if self._is_compact else f"<h1>{text}</h1>"

    def _row(self, product: Product) -> str:
        said = str(product.price) if self._is_compact else f"Price: {product.price}. Rated {product.stars} of 5."
        return f"<div>{said}</div>"

    def _choice(self, name: str, values: Sequence[str]) -> str:
        legend = "" if self._is_compact else f"<legend>{name.capitalize()}</legend>"
        radios = (f'<label><input type="radio" name="{name}" value="{value}"> {value}</label>' for value in values)
        return f"<fieldset>{legend}{''.join(radios)}</fieldset>"

    def _filters(self, query: Query) -> str:
        if self._is_compact:
            return ""
        hidden = f'<input type="hidden" name="q" value="{escape(query.text)}">'
        materials = _select("Material", "material", {"": "any", **{word: word for word in _MATERIALS}}, query.material)
        limits = {"": "any", **{str(limit): f"up to {limit}" for limit in LIMITS}}
        prices = _select("Price", "price", limits, str(query.limit or ""))
        button = "<button>Filter</button>"
        return f'<h1>Results</h1><form action="/search" autocomplete="off">{hidden}{materials}{prices}{button}</form>'


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}">{text}</a>'


def _item(item: Item) -> str:
    return f"<p>{' '.join([item.product.name, *item.chosen.values(), str(item.product.price)])}</p>"


def _select(label: str, name: str, options: dict[str, str], chosen: str) -> str:
    rows = (
        f'<option value="{value}"{" selected" if value == chosen else ""}>{text}</option>'
        for value, text in options.items()
    )
    return f'<label>{label} <select name="{name}">{"".join(rows)}</select></label>'
