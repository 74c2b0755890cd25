"""One Chromium, and the Playwright driver that speaks to it; sessions are opened in it.

`browsers.py` has one a process, all on one event loop, and takes another when this one is dead or worn.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from turnwise.errors import InfraError, UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.confined import Confined
from turnwise_envs.web.launch import FLAGS, confined_chromium
from turnwise_envs.web.proxy import Proxy
from turnwise_envs.web.session import Session, Settings

START_S = 120.0
"""Seconds for the driver and the browser to start."""

CLOSE_S = 5.0
"""Seconds for anything to close; what takes longer is killed, or left to the browser's end."""


class BrowserLost(InfraError):  # noqa: N818 - what happened, as with a sandbox
    """The browser is gone or does not answer; the next episode gets another."""


class Browser:
    """A browser that has started."""

    def __init__(self, driver: Any, chromium: Any, launch: Confined, tier: Tier) -> None:
        """Take over what `start` started."""
        self._driver, self._chromium, self._launch = driver, chromium, launch
        self.tier = tier
        self.num_opened = 0  # sessions, ever
        self.sessions: set[Session] = set()  # that are open

    @classmethod
    async def start(cls, tier: Tier) -> Browser:
        """Start one that is confined like this; BrowserLost if it does not come up."""
        async_playwright = playwright()
        launch = await asyncio.to_thread(confined_chromium, tier)
        driver = None
        try:
            async with asyncio.timeout(START_S):
                driver = await async_playwright().start()
                chromium, _ = await asyncio.gather(_launched(driver, launch), launch.let_begin())
        except BaseException as error:
            await _ended(driver, launch)
            if isinstance(error, Exception):
                raise BrowserLost(f"Chromium did not start: {' '.join(str(error).split())[:400]}") from error
            raise
        return cls(driver, chromium, launch, tier)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs, and the driver with it, as far as is known."""
        return bool(self._chromium.is_connected()) and self._launch.is_alive

    async def open(self, settings: Settings) -> Session:
        """Return a session with a context and a way out of its own."""
        self.num_opened += 1
        proxy = Proxy(settings.network, settings.network_mb * 2**20)
        try:
            await proxy.start(await self._launch.listener())
            session = await Session.open(self._chromium, proxy, settings, lambda: self.is_alive)
        except BaseException:
            await proxy.close()
            raise
        self.sessions.add(session)
        return session

    async def end(self, session: Session) -> None:
        """Close a session of this browser; never raises, twice is once."""
        if session in self.sessions:
            self.sessions.discard(session)
            with contextlib.suppress(Exception):  # the browser may be gone, and a page may hang
                async with asyncio.timeout(CLOSE_S):
                    await session.close()

    async def close(self) -> None:
        """End it and everything in it; never raises."""
        for session in list(self.sessions):
            await self.end(session)
        with contextlib.suppress(Exception):  # whatever it was, the browser ends below
            async with asyncio.timeout(CLOSE_S):
                await self._chromium.close()
        await _ended(self._driver, self._launch)


async def _launched(driver: Any, launch: Confined) -> Any:
    return await driver.chromium.launch(
        executable_path=str(launch.script),
        args=list(FLAGS),
        chromium_sandbox=False,
        timeout=START_S * 1000,
        handle_sigint=False,
        handle_sigterm=False,
        handle_sighup=False,
    )


async def _ended(driver: Any, launch: Confined) -> None:
    try:
        await asyncio.to_thread(launch.close)
    except RuntimeError:  # the interpreter is ending, and has no threads any more
        launch.close()
    if driver is not None:
        with contextlib.suppress(Exception):  # it may have died
            async with asyncio.timeout(CLOSE_S):
                await driver.stop()


def playwright() -> Any:
    """Return the door to Playwright; UserError without it."""
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        problem, remedy = "it drives the browser and is not installed", 'pip install "turnwise[web]"'
        raise UserError("package", "playwright", problem, remedy) from None
    return async_playwright
