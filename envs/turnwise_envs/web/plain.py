"""Pages without a browser: a site of this process is asked as an ASGI application, and a parser reads what it answers.

No socket is opened and no event loop runs, so that a turn takes a millisecond or two. `PlainSeat` takes the place of
the browsers' `Seat` where an environment's pages have no scripts; what is observed is the same (`reading.py`). The
site's handlers must not wait for anything. There is one tab; a form that is come back to is as the site sends it;
cookies are sent to all of the site's pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, unquote, urldefrag, urljoin, urlsplit

from turnwise.errors import EnvError, InvalidAction
from turnwise.sandbox import Tier
from turnwise_envs.web import plain_deeds
from turnwise_envs.web.markup import Document, Element
from turnwise_envs.web.reading import FIELDS, read, role_of
from turnwise_envs.web.session import BID, Settings, View, refuse

Value = TypeVar("Value")
App = Callable[[Any, Any, Any], Awaitable[None]]

MAX_HOPS = 10
"""Redirects, one after the other."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site says to a request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        """Return the values of a header, which is named in lower case."""
        return [value for key, value in self.headers if key == name]


def ask(app: App, method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Answer:
    """Ask an ASGI application, in this thread; what it raises comes out here."""
    parts = urlsplit(url)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": parts.scheme,
        "path": unquote(parts.path) or "/",
        "raw_path": (parts.path or "/").encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"host", parts.netloc.encode()), *((name.encode(), value.encode()) for name, value in headers)],
        "client": ("127.0.0.1", 0),
        "server": (parts.hostname, parts.port or 80),
    }
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    run(_awaited(app(scope, receive, send)))
    start = next((message for message in said if message["type"] == "http.response.start"), None)
    if start is None:
        raise EnvError(f"the site does not answer {url[:80]}")
    return Answer(
        start["status"],
        [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]],
        b"".join(message.get("body", b"") for message in said if message["type"] == "http.response.body"),
    )


def run(work: Coroutine[Any, Any, Value]) -> Value:
    """Return what a coroutine returns that never waits; EnvError if it does."""
    try:
        work.send(None)
    except StopIteration as over:
        value: Value = over.value
        return value
    work.close()
    raise EnvError("the site waits for something: without a browser its handlers must answer at once")


async def _awaited(work: Awaitable[Value]) -> Value:
    return await work


@dataclass(eq=False, slots=True)
class PlainSession:
    """An episode's part of a site: cookies, the pages so far, and the one that is open."""

    app: App
    base: str  # the site's address, such as "http://127.0.0.1"
    history: list[str] = field(default_factory=list)
    place: int = -1  # in the history
    cookies: dict[str, str] = field(default_factory=dict)
    document: Document = field(default_factory=lambda: Document(""))

    @property
    def url(self) -> str:
        """Where the open page is."""
        return self.history[self.place] if self.history else self.base

    async def turn(self, deed: Callable[[PlainSession], Awaitable[None]]) -> View:
        """Do it, and return what is there."""
        error = ""
        try:
            await deed(self)
        except InvalidAction as refused:
            error = str(refused)
        return View(rows=read(self.document), url=self.url, error=error)

    def aim(self, bid: str, kind: str = "mouse") -> Element:
        """Return the element that a row was about, if it can be met; `kind` and reasons are those of `page.js`."""
        match = BID.fullmatch(bid)
        if match is None or match[1]:
            raise InvalidAction(f"no element {bid[:20]}: name one by its number in brackets")
        element = self.document.find(int(match[2]))
        if element is None:
            refuse(bid, "it is not on the page")
        given, tag = element.attributes, element.tag
        takes_text = tag == "textarea" or (tag == "input" and role_of(element) in FIELDS)
        reasons = {
            "choose it with select_option in its list": tag == "option",
            "it is disabled": element.is_disabled,
            "it takes no text": kind == "text" and not takes_text,
            "it is read-only": kind == "text" and "readonly" in given,
            "it is no list of options": kind == "list" and tag != "select",
        }
        return next((refuse(bid, reason) for reason, holds in reasons.items() if holds), element)

    def go(self, url: str, *, method: str = "GET", body: str = "", is_form: bool = False) -> None:
        """Load a page of the site, a new one in the history unless a link on the open one leads to itself."""
        wanted = urldefrag(self._address(url))[0]
        is_same = bool(self.history) and wanted == self.url and not is_form
        found = self._load(wanted, method, body)
        self.history[self.place + (not is_same) :] = [found]
        self.place = len(self.history) - 1

    def travel(self, step: int) -> None:
        """Go back or forward in the history."""
        place = self.place + step
        if not 0 <= place < len(self.history):
            raise InvalidAction(f"there is nothing to go {'forward' if step > 0 else 'back'} to")
        self.history[place] = self._load(self.history[place])
        self.place = place

    def submit(self, form: Element, sender: Element | None) -> None:
        """Send a form by one of its buttons."""
        pairs = [pair for control in self.document.root.below() for pair in self._entered(control, form, sender)]
        said = "&".join(f"{_spelt(name)}={_spelt(value)}" for name, value in pairs)
        target = self._address(form.attributes.get("action", "") or self.url)
        if form.attributes.get("method", "").casefold() == "post":
            self.go(target, method="POST", body=said, is_form=True)
        else:
            self.go(f"{target.partition('#')[0].partition('?')[0]}?{said}", is_form=True)

    def owner(self, control: Element) -> Element | None:
        """Return the form that a control belongs to."""
        named = control.attributes.get("form")
        return self.document.named(named) if named else control.above("form")

    def _address(self, url: str, base: str = "") -> str:
        """Return where a link on a page leads, spelt as a browser spells it; InvalidAction for what is no address."""
        try:
            return quote(urljoin(base or self.url, url.strip()), safe="!#$%&'()*+,/:;=?@[]~")
        except ValueError:
            raise InvalidAction(f"{url[:80]} is no address") from None

    def _load(self, url: str, method: str = "GET", body: str = "") -> str:
        """Open a page and return its address, which redirects may have changed."""
        for _ in range(MAX_HOPS):
            if urlsplit(url)[:2] != urlsplit(self.base)[:2]:
                raise InvalidAction(
                    f"{(urlsplit(url).hostname or url)[:80]} is not among the hosts that can be reached"
                )
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            headers = [("cookie", cookies)] if cookies else []
            if method == "POST":
                headers += [("content-type", "application/x-www-form-urlencoded"), ("content-length", str(len(body)))]
            answer = ask(self.app, method, url, headers, body.encode())
            self._keep(answer.header("set-cookie"))
            if answer.status not in (301, 302, 303, 307, 308) or not answer.header("location"):
                self.document = Document(answer.body.decode(errors="replace"))
                return url
            url = self._address(answer.header("location")[0], url)
            if answer.status < 307:
                method, body = "GET", ""
        raise InvalidAction("the page could not be loaded (ERR_TOO_MANY_REDIRECTS)")

    def _keep(self, lines: Sequence[str]) -> None:
        for cookie in (cookie for line in lines for cookie in SimpleCookie(line).values()):
            self.cookies[cookie.key] = cookie.coded_value
            if cookie["max-age"] == "0":
                del self.cookies[cookie.key]

    def _entered(self, control: Element, form: Element, sender: Element | None) -> list[tuple[str, str]]:
        """Return the names and values that a control adds to what its form sends."""
        name, tag, kind = control.attributes.get("name", ""), control.tag, control.kind
        is_field = tag in ("input", "select", "textarea", "button") and "disabled" not in control.attributes
        if not name or not is_field or self.owner(control) is not form:
            return []
        if tag == "select":
            return [(name, option_value(one)) for one in control.below() if one.tag == "option" and one.selected]
        if tag == "button" or (tag == "input" and kind in ("submit", "button", "reset", "image", "file")):
            return [(name, control.value)] if control is sender else []
        if tag == "input" and kind in ("checkbox", "radio"):
            return [(name, control.attributes.get("value", "on"))] if control.checked else []
        return [(name, control.value)]


class PlainSeat:
    """One environment's place at a site without a browser: a session at a time."""

    deeds: Any = plain_deeds
    tier: Tier | None = None

    def __init__(self, app: App, base: str) -> None:
        """Nothing is asked before an episode begins."""
        self._app, self._base = app, base
        self._session: PlainSession | None = None

    def open(self, settings: Settings) -> None:
        """Begin a session instead of the one before; of the settings none concerns what has no browser."""
        self._session = PlainSession(self._app, self._base)

    def run(self, work: Callable[[Any], Coroutine[Any, Any, View]], limit_s: float) -> View:
        """Return what the session did; it waits for nothing, so the limit is the rollout's."""
        if self._session is None:
            raise EnvError("there is no session: call reset first")
        return run(work(self._session))

    def release(self) -> None:
        """Forget the session; another one may be opened."""
        self._session = None


def option_value(option: Element) -> str:
    """Return what an option sends."""
    return option.attributes.get("value", " ".join(option.text.split()))


def _spelt(text: str) -> str:
    return quote_plus("\r\n".join(text.splitlines()), safe="*").replace("~", "%7E")
