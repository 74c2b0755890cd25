"""Pages without a browser: rows and episodes as in the browser, forms, cookies, the history, what cannot be done."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from web_pieces import SiteEnv, needs_browser, one_browser, site

from turnwise.env import tool
from turnwise.errors import EnvError
from turnwise_envs.shop.env import ShopEnv
from turnwise_envs.web import plain_deeds
from turnwise_envs.web.markup import Document
from turnwise_envs.web.page import Viewing
from turnwise_envs.web.plain import PlainSession, ask, run
from turnwise_envs.web.plain_page import PlainPageEnv
from turnwise_envs.web.reading import read
from turnwise_envs.web.session import View

PAGES = {
    "form": """<title>Form</title><h1>A <b>form</b></h1><div style="display:none">hidden</div><p hidden>hidden</p>
    <form><label>Name <input name="name"></label><label for="c">Colour</label>
    <select id="c"><option>Red<option>Blue</select><select multiple><option selected>1<option selected>2</select>
    <label><input type="checkbox" checked> Agreed</label><input type="radio" aria-label="Big" checked>
    <textarea placeholder="Words">
two  words &amp; "more"</textarea><input readonly value="fixed"><input type="hidden" value="h"><input type="search">
    <button disabled>Later</button><input type="submit" value="Send"><button title="t"></button></form>""",
    "words": """<p>Some <b>bold</b> text and <a href="/other">a <i>link</i></a>.<br>More<p>Next one
    <ul><li>one<li>two <small>small</small><li><a href="/x">three</a> and <em>more</em></ul>
    <dl><dt>term<dd>said</dl><a>no link</a><a href="/empty" class="icon home"></a><span role="tab"
    aria-selected="true" aria-expanded="false">One</span><blockquote>said &lt;so&gt;&nbsp;twice</blockquote>""",
    "tables": """<table><caption>All</caption><tr><th>Size<td>Big<tr><td>Pick<td><button>this</button>
    <tr><td><tr><td>one</table><div tabindex="0" id="pad">press me</div><div tabindex="0" class="icon"></div>
    <fieldset><legend>Of</legend><label for="r">R</label><input id="r" type="radio"></fieldset>
    <dialog>closed</dialog><dialog open aria-label="D"><p>a</p><p>b</p></dialog><noscript>none</noscript>""",
    "labels": """<p id="by">By <b>name</b></p><input aria-labelledby="by">
    <label>Out <select><option>x</select> in</label>
    <label for="none">nothing</label><label>Two <input type="checkbox"><input aria-label="b"></label>
    <input type="number" value="3"><input alt="alt" value="v"><h2 role="none">plain <input type="button" value="B"></h2>
    <div role="alert">now</div><nav><span><button>in</button></span></nav>text at <code>the</code> end""",
    "hidden": """<button>Add<span hidden> two</span> one<br>more<div>below</div><img alt="picture"></button>
    <a href="/">To<b style="display:none"> nothing</b><script>0</script></a><p>A<small hidden>B</small>C</p>
    <h2>Top <i style="visibility:hidden">no</i></h2><div style="visibility:hidden">gone<button>gone</button></div>
    <ul hidden><li><a href="/">gone</a></ul><label hidden>gone <input></label><label>L <input hidden></label>
    <table><tr><td>Seen<td hidden>gone</table><input placeholder="P" title="T"><a href="/" hidden>gone</a>
    <button style="DISPLAY: none">gone</button><div><p>said</p></div><label>Kept <input></label>
    <h3>End</h3><h4>Over</h4>""",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[SiteEnv]:
    """An environment on a site that has all pages."""
    with one_browser(), site(index="", **PAGES) as pages:
        env = SiteEnv(pages)
        env.reset(seed=0)
        yield env
        env.close()


@pytest.mark.parametrize("name", PAGES)
@needs_browser
def test_rows_are_those_of_the_browser(name: str, browser: SiteEnv) -> None:
    assert browser.step(f"goto {browser.home}/{name}")[4]["is_valid"]
    seen = [row.line for row in browser.view.rows]
    assert [row.line for row in read(Document(PAGES[name]))] == seen
    assert len(seen) > 10


@needs_browser
@pytest.mark.parametrize("compact", [False, True])
def test_with_a_browser_and_without_an_episode_of_the_shop_is_the_same(*, compact: bool, browser: SiteEnv) -> None:
    plain, real = (ShopEnv(compact=compact, via=via, max_turns=25) for via in ("http", "browser"))
    assert (plain.sandbox_tier, real.sandbox_tier) == ("none", "bubblewrap")
    for seed in range(2):
        rng = np.random.default_rng(seed)
        assert plain.reset(seed=seed) == real.reset(seed=seed)
        for place in range(25):
            action = plain.demonstrate(rng) if place % 3 else _random_move(plain, rng)
            one, other = plain.step(action), real.step(action)
            assert one == other, action
            if one[2]:
                break
    real.close()


def _random_move(env: ShopEnv, rng: np.random.Generator) -> str:
    bid, draw = rng.choice([row.bid for row in env.view.rows]), rng.random()
    others = ("go_back", f"select_option {bid} | wool", 'fill 1 | a<b&"c" ~*é', f"fill {bid} | bag", "click 99")
    return f"click {bid}" if draw < 0.5 else others[rng.integers(len(others))]


def test_a_page_that_is_no_html_at_all_is_read_all_the_same() -> None:
    for text in (
        "",
        "<",
        "<p",
        "</p></p>",
        "<a href=x>" * 300,
        "<!doctype",
        "\x00&#0;&nope;",
        "<select><option",
        "]]>",
        "<div>" * 5000 + "deep",
    ):
        assert isinstance(read(Document(text)), list)
    assert read(Document("<div>" * 5000 + "deep"))[0].name == "deep"


class Pages:
    """A site of a test's own: pages by path; a request is remembered, and what a function returns is the answer."""

    def __init__(self, **pages: str | Callable[[str, str], Any]) -> None:
        self.pages, self.asked = pages, list[tuple[str, ...]]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, query = scope["path"].strip("/") or "index", scope["query_string"].decode()
        headers = dict(scope["headers"])
        body = (await receive())["body"].decode()
        self.asked.append((scope["method"], path, query, body, headers.get(b"cookie", b"").decode()))
        page = self.pages[path]
        status, more, text = (200, [], page) if isinstance(page, str) else page(query, body)
        fields = [(name.encode(), value.encode()) for name, value in more]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": text.encode()})


def visit(pages: Pages) -> Callable[..., View]:
    session = PlainSession(pages, "http://127.0.0.1")

    def do(deed: Callable[..., Any], *given: Any, **named: Any) -> View:
        return run(session.turn(lambda one: deed(one, *given, **named)))

    do(plain_deeds.enter, "http://127.0.0.1/")
    return do


FORM = """<form action="/sent?old=1"><input name="a"><input name="off" value="1" disabled><input value="nameless">
<input type="checkbox" name="b"><input type="radio" name="c" value="x"><input type="radio" name="c" value="y" checked>
<select name="d"><option value="1">One<option>Two</select><textarea name="e">t</textarea><button name="go" value="1">1
</button><button name="go" value="2">2</button></form><a href="/">self</a><a href="#top">top</a><p>text</p>"""


def test_a_form_sends_what_was_entered_by_the_button_that_was_pressed() -> None:
    pages = Pages(index=FORM, sent="<p>sent</p>")
    do = visit(pages)
    do(plain_deeds.fill, "1", "a b&c ~*é\n")
    do(plain_deeds.click, "4")
    do(plain_deeds.click, "5")
    do(plain_deeds.choose, "7", ["Two"])
    do(plain_deeds.fill, "10", "x\ny")
    view = do(plain_deeds.click, "12")
    assert (view.rows[0].name, view.url.partition("?")[0]) == ("sent", "http://127.0.0.1/sent")
    assert pages.asked[-1][2] == "a=a+b%26c+%7E*%C3%A9&b=on&c=x&d=Two&e=x%0D%0Ay&go=2"
    assert do(plain_deeds.travel, is_forward=False).rows[0].value == ""


def test_a_posted_form_is_redirected_with_the_cookie_it_was_given() -> None:
    to = lambda *fields: (303, [("location", "/done"), *fields], "")  # noqa: E731
    pages = Pages(
        index='<form method="POST" action="/keep"><input name="a" value="é"><button>k</button></form>',
        keep=lambda _, body: to(("set-cookie", f"id={len(parse_qsl(body))}; Path=/; HttpOnly")),
        done='<form method="post" action="/drop"><button>d</button></form>',
        drop=lambda *_: to(("set-cookie", 'id=""; Max-Age=0')),
    )
    do = visit(pages)
    do(plain_deeds.click, "2")
    assert pages.asked[-2:] == [("POST", "keep", "", "a=%C3%A9", ""), ("GET", "done", "", "", "id=1")]
    do(plain_deeds.click, "1")
    assert pages.asked[-1] == ("GET", "done", "", "", "")


def test_the_history_has_a_page_once_if_a_link_on_it_leads_to_itself() -> None:
    pages = Pages(index='<a href="/next">n</a>', next='<a href="/next">same</a><a href="#x">here</a>')
    do = visit(pages)
    for bid in ("1", "1", "2"):
        view = do(plain_deeds.click, bid)
    assert [row.states for row in view.rows] == [(), ("focused",)]
    assert do(plain_deeds.travel, is_forward=False).url == "http://127.0.0.1/"
    assert do(plain_deeds.travel, is_forward=False).error == "there is nothing to go back to"
    assert do(plain_deeds.travel, is_forward=True).url == "http://127.0.0.1/next"
    assert do(plain_deeds.travel, is_forward=True).error == "there is nothing to go forward to"


@pytest.mark.parametrize(
    ("page", "deed", "given", "error"),
    [
        ("<a href='/'>a</a>", "click", ("9",), "element 9: it is not on the page"),
        ("<a href='/'>a</a>", "click", ("0",), "element 0: it is not on the page"),
        ("<a href='/'>a</a>", "click", ("a1",), "no element a1: name one by its number in brackets"),
        ("<button disabled>b</button>", "click", ("1",), "element 1: it is disabled"),
        ("<select><option>o</select>", "click", ("2",), "element 2: choose it with select_option in its list"),
        ("<select><option>o</select>", "choose", ("1", ["p"]), "no option p; expected one of o"),
        ("<input>", "choose", ("1", ["p"]), "element 1: it is no list of options"),
        ("<input readonly value=x>", "fill", ("1", "p"), "element 1: it is read-only"),
        ("<input type=checkbox>", "fill", ("1", "p"), "element 1: it takes no text"),
        ("<p>out <a href='/'>in</a></p>", "click", ("1",), "element 1: click what is in it"),
        ("<a href='http://a.com/'>a</a>", "click", ("1",), "a.com is not among the hosts that can be reached"),
        ("<a href='http://[a/'>a</a>", "click", ("1",), "http://[a/ is no address"),
        ("<form action='http://[a/'><button>b</button></form>", "click", ("1",), "http://[a/ is no address"),
        ("<input role=switch>", "fill", ("1", "p"), "element 1: it takes no text"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_as_in_the_browser(
    page: str, deed: str, given: tuple[Any, ...], error: str
) -> None:
    view = visit(Pages(index=page))(getattr(plain_deeds, deed), *given)
    assert (view.error, view.url) == (error, "http://127.0.0.1/")
    assert view.rows


def test_a_site_that_redirects_forever_is_left_alone_and_one_that_waits_is_an_error() -> None:
    pages = Pages(index="<a href='/round'>a</a>", round=lambda *_: (302, [("location", "/round")], ""))
    assert visit(pages)(plain_deeds.click, "1").error == "the page could not be loaded (ERR_TOO_MANY_REDIRECTS)"

    class Waits:
        def __await__(self) -> Iterator[None]:
            yield

    async def slow(*_: Any) -> None:
        await Waits()

    async def silent(*_: Any) -> None:
        pass

    with pytest.raises(EnvError, match="must answer at once"):
        ask(slow, "GET", "http://127.0.0.1/")
    with pytest.raises(EnvError, match="does not answer"):
        ask(silent, "GET", "http://127.0.0.1/")


def test_addresses_are_spelt_as_a_browser_spells_them_and_sites_read_them_as_they_are_meant() -> None:
    pages = Pages(
        index="<a href=' /caf\u00e9 au%20lait?q=a b&c=%25#top'>a</a>", **{"caf\u00e9 au lait": "<p>served</p>"}
    )
    view = visit(pages)(plain_deeds.click, "1")
    assert (view.rows[0].name, view.url) == ("served", "http://127.0.0.1/caf%C3%A9%20au%20lait?q=a%20b&c=%25")
    assert pages.asked[-1][2] == "q=a%20b&c=%25"


def test_a_link_that_says_it_is_disabled_is_none_the_less_followed() -> None:
    view = visit(Pages(index="<a href='/next' disabled>a</a>", next="<p>next</p>"))(plain_deeds.click, "1")
    assert (view.error, view.rows[0].name) == ("", "next")


class Desk(PlainPageEnv):
    """A site of one form, and a tool of its own."""

    max_turns = 5

    def __init__(self, app: Any, via: str = "http") -> None:
        super().__init__(app, Viewing(), via=via)

    def begin(self, options: Any) -> Any:
        self.enter("/", options)
        return self.begun("")

    def judge(self, view: View) -> bool:
        return False

    @tool
    def say(self, text: str) -> str:
        """Say something."""
        self.finish()
        return text


def test_an_environment_on_plain_pages_of_ones_own_has_the_tools_that_they_take_and_its_own() -> None:
    env = Desk(Pages(index="<form><input name=a><button>Send</button></form>"))
    assert [one["function"]["name"] for one in env.tools] == ["click", "fill", "select_option", "go_back", "say"]
    env.reset(seed=0)
    assert env.step("fill 1 | b")[0][0]["content"].startswith('[1] textbox value="b" focused')
    assert env.step("click 2")[4]["is_valid"]
    assert env.view.url == "http://127.0.0.1/?a=b"
    assert env.step("hover 1")[0][0]["content"].startswith("error: unknown tool hover")
    assert env.step("say done")[2]


@needs_browser
def test_in_the_browser_all_of_a_page_is_waited_for(browser: SiteEnv) -> None:
    async def halting(scope: Any, _: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
        halves = (b"<button disabled>off</button><a href='/'>on</a>" + b" " * 5000, b"<h1>whole</h1>")
        await send(start)
        for number, half in enumerate(halves):
            time.sleep(0.7 * number)
            await send({"type": "http.response.body", "body": half, "more_body": not number})

    env = Desk(halting, via="browser")
    env.reset(seed=0)
    for action in ("click 2", "click 1", "go_back"):
        assert '[3] heading "whole"' in env.step(action)[0][0]["content"]
    env.close()


def test_only_one_of_a_group_is_checked_and_of_a_list_chosen() -> None:
    do = visit(Pages(index=FORM))
    do(plain_deeds.click, "5")
    view = do(plain_deeds.choose, "7", ["Two", "1"])
    marked = [row.bid for row in view.rows if {"checked", "selected"} & set(row.states)]
    assert marked == ["5", "8"]
    assert do(plain_deeds.click, "15").rows[4].states == ("checked",)
    assert not any("focused" in row.states for row in do(plain_deeds.click, "15").rows)
