"""The shop as an ASGI application on Starlette: pages, a cookie for each visit, forms that are answered by redirects.

Handlers wait for nothing, so that an episode may ask the application in its own thread (`web/plain.py`). Pages are not
to be stored: going back shows a page as it is now.
"""

from __future__ import annotations

import functools
import os
import threading
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl

from turnwise.errors import UserError
from turnwise_envs.shop.catalogue import draw_catalogue
from turnwise_envs.shop.pages import Pages
from turnwise_envs.shop.stock import Query, Stock

COOKIE = "visit"
MAX_BODY = 10_000
"""Bytes of a form."""

_building = threading.Lock()


class Shop:
    """A stock and the application that sells it."""

    def __init__(self, stock: Stock, pages: Pages) -> None:
        """UserError without Starlette."""
        if find_spec("starlette") is None:
            problem, remedy = "starlette, which the shop is made of, is not installed", 'pip install "turnwise[shop]"'
            raise UserError("env.id", "turnwise/Shop-v0", problem, remedy)
        self.stock, self._pages = stock, pages
        self.app = self._made()

    def _made(self) -> Any:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        routes = [
            Route("/", self._home),
            Route("/enter/{visit}", self._enter),
            Route("/search", self._search),
            Route("/product/{number:int}", self._product),
            Route("/basket", self._basket),
            Route("/basket", self._add, methods=["POST"]),
            Route("/remove", self._remove, methods=["POST"]),
            Route("/checkout", self._checkout),
            Route("/order", self._order, methods=["POST"]),
            Route("/thanks", self._thanks),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._missing})

    async def _home(self, request: Any) -> Any:
        return _page(self._pages.home())

    async def _enter(self, request: Any) -> Any:
        answer = _to("/")
        answer.set_cookie(COOKIE, request.path_params["visit"], httponly=True, samesite="lax")
        return answer

    async def _search(self, request: Any) -> Any:
        query = Query.of(request.query_params)
        found, has_more = self.stock.search(query)
        return _page(self._pages.results(query, found, has_more=has_more))

    async def _product(self, request: Any) -> Any:
        product = self.stock.products.get(request.path_params["number"])
        return _page(self._pages.product(product)) if product else await self._missing(request)

    async def _basket(self, request: Any) -> Any:
        return _page(self._pages.basket(self.stock.basket(_visit(request))))

    async def _add(self, request: Any) -> Any:
        form = await _form(request)
        product = self.stock.products.get(_number(form.get("product", "")))
        if product is None:
            return await self._missing(request)
        self.stock.add(_visit(request), product, form)
        return _to("/basket")

    async def _remove(self, request: Any) -> Any:
        form = await _form(request)
        self.stock.remove(_visit(request), _number(form.get("item", "")))
        return _to("/basket")

    async def _checkout(self, request: Any) -> Any:
        return _page(self._pages.checkout(self.stock.basket(_visit(request))))

    async def _order(self, request: Any) -> Any:
        self.stock.order(_visit(request))
        return _to("/thanks")

    async def _thanks(self, request: Any) -> Any:
        return _page(self._pages.thanks())

    async def _missing(self, request: Any, error: Exception | None = None) -> Any:
        return _page(self._pages.missing(), getattr(error, "status_code", 404))


def shop(catalogue: int, num_products: int, *, is_compact: bool) -> Shop:
    """Return this process's shop with these products; the first time it is set up."""
    with _building:
        return _shop(os.getpid(), catalogue, num_products, is_compact)


@functools.cache
def _shop(process: int, catalogue: int, num_products: int, is_compact: bool) -> Shop:
    stock = Stock(draw_catalogue(catalogue, num_products), page_size=4 if is_compact else 8)
    return Shop(stock, Pages(is_compact=is_compact))


def _page(text: str, status: int = 200) -> Any:
    from starlette.responses import HTMLResponse

    return HTMLResponse(text, status, {"cache-control": "no-store"})


def _to(url: str) -> Any:
    from starlette.responses import RedirectResponse

    return RedirectResponse(url, 303)


def _visit(request: Any) -> str:
    return str(request.cookies.get(COOKIE, ""))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


async def _form(request: Any) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part[: MAX_BODY - len(body)]
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
