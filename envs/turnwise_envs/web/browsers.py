"""The browsers of this process: one thread whose event loop owns them, for the threads that environments run in.

All environments share one Chromium (and a second one, where some ask for one that is not confined). After so many
episodes a fresh one takes its place, and the old one ends with its last episode; one that died is replaced by the next
episode. When no environment is left, nothing is left running; an owner that is killed leaves nothing either, since
driver and browser end with their pipes.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from turnwise.sandbox import Tier
from turnwise_envs.web import deeds
from turnwise_envs.web.browser import START_S, Browser, BrowserLost
from turnwise_envs.web.launch import tier_of
from turnwise_envs.web.session import Session, Settings, View

Value = TypeVar("Value")

OPEN_S = 30.0
"""Seconds for a context and its first, empty page."""

SLACK_S = 5.0
"""Seconds that the event loop may be late."""


class Browsers:
    """Browsers on an event loop in a thread of its own."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._current: dict[Tier, Browser] = {}
        self._worn: set[Browser] = set()  # take no more sessions, and end with their last one
        self._closing: set[asyncio.Task[None]] = set()
        self._choosing = asyncio.Lock()
        self._num_users, self._counting = 0, threading.Lock()
        threading.Thread(target=self._loop.run_forever, name="browsers", daemon=True).start()
        atexit.register(self.close)

    def run(self, work: Coroutine[Any, Any, Value], limit_s: float) -> Value:
        """Run it on the loop and return what it returns; BrowserLost if that takes longer. From any other thread."""
        future: Future[Value] = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), self._loop)
        try:
            return future.result(limit_s + SLACK_S)
        except TimeoutError:
            future.cancel()
            raise BrowserLost(f"the browser did not answer within {limit_s:g} s") from None

    def submit(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it on the loop some time."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    async def open(self, settings: Settings, tier: Tier, recycle: int) -> tuple[Browser, Session]:
        """Return a session and its browser, which has opened at most `recycle` of them; BrowserLost."""
        for is_last in (False, True):
            browser = await self._chosen(tier, recycle)
            try:
                async with asyncio.timeout(OPEN_S):
                    return browser, await browser.open(settings)
            except Exception as error:
                self._retire(browser)
                if is_last:
                    raise BrowserLost(f"no page could be opened: {' '.join(str(error).split())[:300]}") from error
        raise AssertionError("unreachable")

    async def end(self, browser: Browser, session: Session) -> None:
        """Close a session, and with it a browser that is worn or dead."""
        await browser.end(session)
        if browser in self._worn or not browser.is_alive:
            self._retire(browser)

    def join(self) -> None:
        """Count an environment that uses them."""
        with self._counting:
            self._num_users += 1

    def leave(self, *, waits: bool) -> None:
        """Count one that does not any more; with the last one all browsers end."""
        with self._counting:
            self._num_users -= 1
            if self._num_users:
                return
        if waits:
            self.run(self._close_unused(), START_S)
        else:
            self.submit(self._close_unused())

    def close(self) -> None:
        """End all browsers, within seconds; they start again when wanted."""
        with contextlib.suppress(BrowserLost):
            self.run(self._close(), START_S)

    async def _close_unused(self) -> None:
        if not self._num_users:
            await self._close()

    async def _close(self) -> None:
        for browser in (*self._current.values(), *self._worn):
            self._discard(browser)
        await asyncio.gather(*self._closing)

    async def _chosen(self, tier: Tier, recycle: int) -> Browser:
        async with self._choosing:
            browser = self._current.get(tier)
            if browser is not None and (browser.num_opened >= recycle or not browser.is_alive):
                self._retire(browser)
                browser = None
            if browser is None:
                browser = self._current[tier] = await Browser.start(tier)
            return browser

    def _retire(self, browser: Browser) -> None:
        """Give it no more sessions; close it once it has none, or cannot have any."""
        if self._current.get(browser.tier) is browser:
            del self._current[browser.tier]
        self._worn.add(browser)
        if not browser.sessions or not browser.is_alive:
            self._discard(browser)

    def _discard(self, browser: Browser) -> None:
        """Close it, meanwhile."""
        self._worn.discard(browser)
        if self._current.get(browser.tier) is browser:
            del self._current[browser.tier]
        task = asyncio.create_task(browser.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class Seat:
    """One environment's place at the browsers: a session at a time."""

    deeds: Any = deeds

    def __init__(self, owner: object, *, unsafe_process: bool, recycle: int) -> None:
        """Given back when `owner` is no more, at the latest; UserError where no browser can be confined as asked."""
        self.tier = tier_of(unsafe_process=unsafe_process)
        self._recycle = recycle
        self._browsers: Browsers | None = None
        self._held: tuple[Browser, Session] | None = None
        weakref.finalize(owner, self.release, waits=False).atexit = False

    def open(self, settings: Settings) -> None:
        """Begin a session instead of the one before; BrowserLost, UserError."""
        if self._browsers is None:
            self._browsers = browsers()
            self._browsers.join()
        self._drop()
        self._held = self._browsers.run(self._browsers.open(settings, self.tier, self._recycle), 2 * (START_S + OPEN_S))

    def run(self, work: Callable[[Session], Coroutine[Any, Any, View]], limit_s: float) -> View:
        """Return what the session did; BrowserLost if there is none any more."""
        if self._browsers is None or self._held is None:
            raise BrowserLost("there is no session")
        browser, session = self._held
        try:
            return self._browsers.run(work(session), limit_s)
        except Exception as error:
            if isinstance(error, BrowserLost) or not browser.is_alive:
                self._drop()
                raise BrowserLost(f"the browser is gone: {' '.join(str(error).split())[:300]}") from error
            raise

    def release(self, *, waits: bool = True) -> None:
        """Give it back, and wait for the browser's end if nobody else uses it; it may be used again."""
        self._drop()
        if self._browsers is not None:
            left, self._browsers = self._browsers, None
            left.leave(waits=waits)

    def _drop(self) -> None:
        if self._browsers is not None and self._held is not None:
            self._browsers.submit(self._browsers.end(*self._held))
        self._held = None


def browsers() -> Browsers:
    """Return this process's."""
    return _of_process(os.getpid())


@functools.cache
def _of_process(process: int) -> Browsers:
    return Browsers()
