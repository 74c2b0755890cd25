"""`PlainPageEnv`: the base of environments on plain pages that this process serves, in a real browser or without one.

The site is an ASGI application. `via="http"` asks it and reads its pages in the environment's own thread (`plain.py`);
`via="browser"` has Chromium do so, over loopback. What can be done, and what is then observed, is the same.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from turnwise.env import tool
from turnwise.errors import UserError
from turnwise_envs.arguments import one_of
from turnwise_envs.web.page import PageEnv, Viewing
from turnwise_envs.web.plain import App, PlainSeat
from turnwise_envs.web.session import Settings, View

TOOLS = ("click", "fill", "select_option", "go_back")
"""Of all that can be done on a page, what plain pages take."""

HOST = "127.0.0.1"

_starting = threading.Lock()


class PlainPageEnv(PageEnv):
    """Act on a site's pages: click, fill, choose, go back."""

    def __init__(self, app: App, viewing: Viewing, render_mode: str | None = None, *, via: str = "http") -> None:
        """Set up; UserError for an option that has no effect, and where what `via` needs is not installed."""
        self._app, self._is_in_browser = app, one_of("via", via, ("http", "browser")) == "browser"
        if not self._is_in_browser:
            _check_without_browser(viewing)
        super().__init__(viewing, render_mode, None if self._is_in_browser else PlainSeat(app, f"http://{HOST}"))
        self._offer({name: one for name, one in self._tools.items() if name in TOOLS or name not in PageEnv._tools})

    def enter(self, path: str, options: Mapping[str, Any]) -> View:
        """Begin an episode at a path of the site, where there is nothing to go back to."""
        host = f"{HOST}:{served(self._app)}" if self._is_in_browser else HOST
        settings = Settings(network=(host,), action_s=0.0, rest_s=30.0, load_s=30.0, width=800, height=4000)
        return self.open(settings, options, partial(self._deeds.enter, url=f"http://{host}{path}"))

    @tool
    def click(self, bid: str) -> str:  # type: ignore[override]
        """Click an element."""
        return self.perform(lambda session: self._deeds.click(session, bid))

    @tool
    def go_back(self) -> str:
        """Go back to the page before."""
        return self.perform(lambda session: self._deeds.travel(session, is_forward=False))


def served(app: App) -> int:
    """Return the port where a site is open to browsers; the first time a server is started. UserError without one."""
    if find_spec("uvicorn") is None:
        problem, remedy = "uvicorn, which serves pages to browsers, is not installed", 'pip install "turnwise[shop]"'
        raise UserError("env.kwargs.via", "browser", problem, remedy)
    with _starting:
        return _served(os.getpid(), app)


@functools.cache
def _served(process: int, app: App) -> int:
    import uvicorn

    listener = socket.create_server((HOST, 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, ws="none", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="site", daemon=True).start()
    return int(listener.getsockname()[1])


def _check_without_browser(viewing: Viewing) -> None:
    """UserError for an option that has no effect without a browser."""
    plain = Viewing()
    for name in ("coordinates", "screenshots", "recycle", "unsafe_process"):
        value = getattr(viewing, name)
        if value != getattr(plain, name):
            raise UserError(f"env.kwargs.{name}", value, "has no effect without a browser", "set via=browser too")
