"""What a policy may do in the browser, in BrowserGym's vocabulary; each is one call on the loop that owns the browser.

What cannot be done is an `InvalidAction`, or an error of Playwright's that `Session.turn` puts into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from turnwise.errors import InvalidAction
from turnwise.sandbox.network import AllowList
from turnwise_envs.web.session import MAX_NOTE, Session

Point = tuple[float, float]


async def goto(session: Session, url: str) -> None:
    """Load a page of a host that can be reached."""
    parts = _split(url)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
    if not AllowList(session.settings.network).has(host, port):
        raise InvalidAction(f"{host[:80]} is not among the hosts that can be reached")
    await session.page.goto(url, wait_until="domcontentloaded", timeout=session.settings.load_s * 1000)


async def enter(session: Session, url: str) -> None:
    """Load a first page in place of the empty one that a tab begins with, so that nothing is to go back to."""
    page = session.page
    await page.evaluate("url => location.replace(url)", url)
    await page.wait_for_url(lambda found: found != "about:blank", wait_until="domcontentloaded")


async def travel(session: Session, *, is_forward: bool) -> None:
    """Go back or forward."""
    page = session.page
    before, go = page.url, page.go_forward if is_forward else page.go_back
    answer = await go(wait_until="domcontentloaded", timeout=session.settings.load_s * 1000)
    if answer is None and page.url == before:
        raise InvalidAction(f"there is nothing to go {'forward' if is_forward else 'back'} to")


async def new_tab(session: Session) -> None:
    """Open an empty tab."""
    if len(session.tabs) >= session.settings.max_tabs:
        raise InvalidAction(f"at most {session.settings.max_tabs} tabs can be open")
    await session.context.new_page()


async def focus_tab(session: Session, index: int) -> None:
    """Make a tab the active one."""
    if not 0 <= index < len(session.tabs):
        raise InvalidAction(f"no tab {index}: there are {len(session.tabs)}, counted from 0")
    session.active = index
    await session.page.bring_to_front()


async def click(session: Session, bid: str, button: str = "left", num_clicks: int = 1) -> None:
    """Click an element where the mouse meets it."""
    x, y = await session.aim(bid)
    await session.page.mouse.click(x, y, button=button, click_count=num_clicks)


async def hover(session: Session, bid: str) -> None:
    """Move the mouse over an element."""
    await session.page.mouse.move(*await session.aim(bid))


async def fill(session: Session, bid: str, text: str) -> None:
    """Enter a text into a field, instead of what is there."""
    await session.aim(bid, "text")
    await (await session.element(bid)).fill(text, force=True)


async def press(session: Session, bid: str, key: str) -> None:
    """Press a key in an element."""
    await (await session.element(bid)).focus()
    await session.page.evaluate("() => globalThis.__turnwise?.settled()")  # the page may have scrolled to it
    await session.page.keyboard.press(key)


async def choose(session: Session, bid: str, options: Sequence[str]) -> None:
    """Choose options of a list, and no others, by what they say or by their values."""
    await session.aim(bid, "list")
    element = await session.element(bid)
    known = await element.evaluate("el => [...el.options].map(one => [one.label.trim(), one.value])")
    for text in options:
        if not any(text in names for names in known):
            said = ", ".join(label for label, _ in known)[:MAX_NOTE]
            raise InvalidAction(f"no option {text[:40]}; expected one of {said}")
    places = [next(place for place, names in enumerate(known) if text in names) for text in options]
    await element.select_option(index=places, force=True)


async def drag(session: Session, start: Point, end: Point) -> None:
    """Drag with the mouse from one point of the window to another."""
    mouse = session.page.mouse
    await mouse.move(*start)
    await mouse.down()
    await mouse.move(*end, steps=8)
    await mouse.up()


async def drag_elements(session: Session, source: str, target: str) -> None:
    """Drag one element to the middle of another."""
    end = await session.aim(target)
    await drag(session, await session.aim(source), end)


def _split(url: str) -> SplitResult:
    """Return the parts of an address that one may go to."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidAction(f"{url[:80]} is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InvalidAction("an address begins with http:// or https:// and a host, without a user")
    return parts
