"""An episode in the browser: a context of its own, its tabs, what a policy does in them and what it then sees.

All of it runs on the event loop that owns the browser, and every wait is bounded. What an action cannot do is an
`InvalidAction` in words that do not depend on chance. A page may do what it likes: dialogs are answered, downloads
refused, further tabs closed, and what it says is data.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from turnwise.errors import InvalidAction
from turnwise_envs.web.proxy import Proxy
from turnwise_envs.web.tree import Row, rows_of

SCRIPT = Path(__file__).with_name("page.js")

START = datetime.datetime(2017, 1, 1, tzinfo=datetime.UTC)
"""When the time of pages begins, where they have one of their own."""

MAX_NOTE = 200
LETTERS = "abcdefgh"
"""Frames within a page, in the order of first being read; further ones are not."""

BID = re.compile(r"([a-h]?)([0-9]{1,6})")

Deed = Callable[["Session"], Awaitable[None]]
"""An action; `deeds.py` has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How an episode's pages behave, and what they may reach."""

    network: tuple[str, ...] = ()  # hosts, as a sandbox's policy lists them; a server of ours as address and port
    network_mb: int = 64  # MiB both ways in an episode
    max_tabs: int = 1
    clock_ms: int = 0  # a turn's milliseconds of the pages' own time, which stands still between; 0: real time
    script: str = ""  # run in every document before its own scripts
    hide: str = ""  # CSS selectors of what is not shown
    boxes: bool = False  # whether every row says where it is
    probe: str = ""  # a function of the page, in JavaScript; what it returns is in the view
    takes_picture: bool = False
    action_s: float = 2.0  # seconds that an element may take to be ready, in real time
    rest_s: float = 2.0  # seconds that a page may take to come to rest, in real time
    load_s: float = 10.0  # seconds that a page may take to load, and to answer
    width: int = 500
    height: int = 320


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What is there after an action."""

    rows: list[Row]
    url: str = ""
    titles: tuple[str, ...] = ()  # of all tabs
    active: int = 0
    notes: tuple[str, ...] = ()  # what happened besides
    error: str = ""  # why the action could not be carried out
    probe: Any = None
    picture: bytes | None = None  # PNG


@dataclass(eq=False)  # without slots: Playwright notes on an object which of its methods listen
class Session:
    """What an episode has of the browser; `turn` is all that environments call."""

    context: Any
    proxy: Proxy
    settings: Settings
    is_alive: Callable[[], bool]  # whether the browser is
    tabs: list[Any] = field(default_factory=list)
    active: int = 0
    notes: list[str] = field(default_factory=list)
    titles: dict[Any, str] = field(default_factory=dict)  # of tabs, as they were last seen
    links: dict[Any, Any] = field(default_factory=dict)  # to tabs, by which what hangs is ended
    letters: dict[Any, str] = field(default_factory=dict)  # of frames
    loading: set[Any] = field(default_factory=set)  # requests that have no answer yet
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)
    has_crashed: bool = False
    wait_ms: int = 0  # that the present action adds

    @classmethod
    async def open(cls, chromium: Any, proxy: Proxy, settings: Settings, is_alive: Callable[[], bool]) -> Session:
        """Return one with an empty page."""
        context = await chromium.new_context(
            proxy={"server": f"http://127.0.0.1:{proxy.port}"},
            viewport={"width": settings.width, "height": settings.height},
            accept_downloads=False,
            service_workers="block",
            reduced_motion="reduce",
            locale="en-US",
            timezone_id="UTC",
        )
        session = cls(context, proxy, settings, is_alive)
        try:
            await session._prepare()
        except BaseException:
            await context.close()
            raise
        return session

    async def _prepare(self) -> None:
        context, settings = self.context, self.settings
        context.set_default_timeout(settings.load_s * 1000)
        context.on("page", self._opened)
        await context.add_init_script(path=SCRIPT)  # the first one: it needs the browser's own timers
        if settings.script:
            await context.add_init_script(settings.script)
        if settings.clock_ms:
            await context.clock.pause_at(START)  # without `install`, after which the phase of frames is chance
        else:
            context.on("request", lambda request: self.loading.add(request))
            for event in ("requestfinished", "requestfailed"):
                context.on(event, lambda request: self.loading.discard(request))
        await context.new_page()

    async def close(self) -> None:
        """End it."""
        for task in self.tasks:
            task.cancel()
        try:
            await self.context.close()
        finally:
            await self.proxy.close()

    @property
    def page(self) -> Any:
        """The active tab."""
        return self.tabs[self.active]

    async def turn(self, deed: Deed) -> View:
        """Do it, let the page come to rest, return what is there; an error of Playwright's if the browser is gone."""
        error, self.wait_ms = "", 0
        self.loading.clear()
        try:
            async with asyncio.timeout(self.settings.load_s + self.settings.action_s):
                await deed(self)
        except InvalidAction as refused:
            error = str(refused)
        except (TimeoutError, playwright_error()) as failed:
            error = await self._reason(failed)
        if not self.tabs and not self.has_crashed:
            await self.context.new_page()
            self._note("the last tab was closed, and an empty one opened")
        return await self._view(await self._rest_and_read(), error)

    async def element(self, bid: str) -> Any:
        """Return a handle of the element that a row was about."""
        frame, number = self._place(bid)
        handle = await frame.evaluate_handle("id => globalThis.__turnwise?.find(id)", number)
        return handle.as_element() or refuse(bid, "it is not on the page")

    async def aim(self, bid: str, kind: str = "mouse") -> tuple[float, float]:
        """Return the point of the window where the element can be met, once it can be; `kind` as in `page.js`."""
        frame, number = self._place(bid)
        asked = "([id, kind]) => globalThis.__turnwise?.aim(id, kind) ?? 'it is not on the page'"
        deadline = asyncio.get_running_loop().time() + self.settings.action_s
        while isinstance(found := await frame.evaluate(asked, [number, kind]), str):
            if self.settings.clock_ms or asyncio.get_running_loop().time() > deadline:
                refuse(bid, found)
            await asyncio.sleep(0.05)
        x, y = found
        while frame.parent_frame is not None:
            box = await (await frame.frame_element()).bounding_box() or {"x": 0, "y": 0}
            x, y, frame = x + box["x"], y + box["y"], frame.parent_frame
        return x, y

    def _place(self, bid: str) -> tuple[Any, int]:
        """Return the frame and the number there of what an action names."""
        match = BID.fullmatch(bid)
        frames = {letter: frame for frame, letter in self.letters.items() if frame.page is self.page}
        frame = {"": self.page.main_frame, **frames}.get(match[1]) if match else None
        if match is None or frame is None:
            raise InvalidAction(f"no element {bid[:20]}: name one by its number in brackets")
        return frame, int(match[2])

    async def _rest_and_read(self) -> list[Row]:
        """Return the rows once the page is at rest, or as it is when it never is."""
        for _ in range(3):
            try:
                async with asyncio.timeout(self.settings.load_s + self.settings.rest_s):
                    await self._rest()
                    return await self._rows(self.page.main_frame)
            except TimeoutError as error:
                await self._interrupt(error)
            except playwright_error() as error:  # it was left for another page meanwhile
                await self._check_alive(error)
        self._note("the page does not answer")
        return []

    async def _interrupt(self, error: Exception) -> None:
        """End what the page is loading and running; pages of ours have nothing that hangs, and the error is raised."""
        if self.settings.clock_ms:
            raise error
        self._note("the page did not come to rest: what it was at was stopped")
        with contextlib.suppress(playwright_error(), TimeoutError, KeyError):
            async with asyncio.timeout(self.settings.load_s):
                for command in ("Runtime.terminateExecution", "Page.stopLoading"):
                    await self.links[self.page].send(command)

    async def _rest(self) -> None:
        await self.page.evaluate("() => globalThis.__turnwise?.frame()")
        if self.settings.clock_ms:
            await self.page.clock.run_for(self.settings.clock_ms + self.wait_ms)
            await self.page.evaluate("() => globalThis.__turnwise?.settled()")
            return
        await asyncio.sleep(self.wait_ms / 1000)
        with contextlib.suppress(playwright_error()):
            await self.page.wait_for_load_state("domcontentloaded", timeout=self.settings.rest_s * 1000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.rest_s):
                while self.loading:
                    await asyncio.sleep(0.01)

    async def _rows(self, frame: Any, prefix: str = "", depth: int = 0) -> list[Row]:
        """Return the rows of a frame, with those of the frames in it below theirs."""
        asked = {"hide": self.settings.hide, "boxes": self.settings.boxes}
        rows = rows_of(await frame.evaluate("asked => __turnwise.read(asked)", asked), prefix, depth)
        for child in frame.child_frames:
            with contextlib.suppress(playwright_error()):  # one that was refused has nothing to show
                number = await (await child.frame_element()).evaluate("el => __turnwise.idOf(el)")
                place = next((place for place, row in enumerate(rows) if row.bid == f"{prefix}{number}"), None)
                letter = self._letter(child)
                if place is not None and letter:
                    rows[place + 1 : place + 1] = await self._rows(child, letter, rows[place].depth + 1)
        return rows

    def _letter(self, frame: Any) -> str:
        """Return a frame's letter; empty if all are in use."""
        for gone in [other for other in self.letters if other.is_detached()]:
            del self.letters[gone]
        if frame not in self.letters:
            letter = next((letter for letter in LETTERS if letter not in self.letters.values()), "")
            if letter:
                self.letters[frame] = letter
        return self.letters.get(frame, "")

    async def _view(self, rows: list[Row], error: str) -> View:
        page, wants = self.page, self.settings
        async with asyncio.timeout(3 * wants.load_s):
            probe = await self._probe(wants.probe) if wants.probe else None
            self.titles[page] = str(await self._probe("document.title") or "")[:80] if wants.max_tabs > 1 else ""
            picture = await page.screenshot() if wants.takes_picture else None
        titles = tuple(" ".join(f"{self.titles.get(tab, '')} {tab.url[:200]}".split()) for tab in self.tabs)
        notes, self.notes = tuple(self.notes), []
        return View(
            rows=rows, url=page.url, titles=titles, active=self.active, notes=notes, error=error, probe=probe,
            picture=picture,
        )  # fmt: skip

    async def _probe(self, script: str) -> Any:
        """Return what a script says of the page; None if it fails, on another page than it was meant for perhaps."""
        try:
            return await self.page.evaluate(script)
        except playwright_error() as error:
            await self._check_alive(error)
            return None

    async def _reason(self, error: Exception) -> str:
        """Return why an action failed, in words that are always the same; raises what is not the policy's doing."""
        await self._check_alive(error)
        if isinstance(error, TimeoutError | playwright_error("TimeoutError")):
            await self._interrupt(error)
            return "that could not be done in time"
        if found := re.search(r"net::(ERR_\w+)", str(error)):
            return f"the page could not be loaded ({found[1]})"
        said = str(error).split("\n")[0].partition(": ")[2].removeprefix("Error: ")
        return said[:MAX_NOTE] or "that could not be done"

    async def _check_alive(self, error: Exception) -> None:
        """Raise the error if the page has crashed or the browser is gone, which may take a moment to be known."""
        for _ in range(20 if "closed" in str(error) else 1):
            if self.has_crashed or not self.is_alive():
                raise error
            await asyncio.sleep(0.05)

    def _opened(self, page: Any) -> None:
        """Take in a tab that an action or a page has opened."""
        page.on("dialog", lambda dialog: self._later(self._answer(dialog)))
        page.on("download", lambda download: self._note(f"a download was refused: {download.suggested_filename}"))
        page.on("crash", self._crashed)
        page.on("close", self._closed)
        if len(self.tabs) >= self.settings.max_tabs:
            self._note("a further tab was closed")
            self._later(page.close())
            return
        self.tabs.append(page)
        self.active = len(self.tabs) - 1
        if not self.settings.clock_ms:
            self._later(self._link(page))

    async def _link(self, page: Any) -> None:
        self.links[page] = await self.context.new_cdp_session(page)

    def _closed(self, page: Any) -> None:
        if page in self.tabs:
            place = self.tabs.index(page)
            del self.tabs[place]
            self.links.pop(page, None)
            self.active = max(0, self.active - (place <= self.active))

    def _crashed(self, _: Any) -> None:
        self.has_crashed = True

    async def _answer(self, dialog: Any) -> None:
        """Say yes to a dialog, but give no text to one that asks for some."""
        does_accept = dialog.type != "prompt"
        self._note(f"{dialog.type} dialog {dialog.message!r} was {'accepted' if does_accept else 'dismissed'}")
        await (dialog.accept() if does_accept else dialog.dismiss())

    def _note(self, text: str) -> None:
        if len(self.notes) < 10:
            self.notes.append(" ".join(text.split())[:MAX_NOTE])

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the page is gone: nobody waits for the answer


def refuse(bid: str, reason: str) -> NoReturn:
    """Raise InvalidAction: the element cannot be met."""
    raise InvalidAction(f"element {bid}: {reason}")


def playwright_error(name: str = "Error") -> type[Exception]:
    """Return a class of Playwright's errors, which is installed where anything of this runs."""
    from playwright import async_api

    found: type[Exception] = getattr(async_api, name)
    return found
