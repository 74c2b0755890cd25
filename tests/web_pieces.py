"""Pages of a test's own, served on loopback, and an environment that browses them."""

import http.server
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

from turnwise_envs.web.browse import BrowseEnv
from turnwise_envs.web.browsers import browsers
from turnwise_envs.web.deeds import goto
from turnwise_envs.web.launch import PLACES
from turnwise_envs.web.page import Viewing
from turnwise_envs.web.session import Settings, View

LACKING = [
    *[f"no {program}" for program in ("bwrap",) if shutil.which(program) is None],
    *[f"no package {name}" for name in ("playwright", "miniwob") if find_spec(name) is None],
    *([] if any(map(shutil.which, PLACES)) else ["no chromium"]),
]
needs_browser = pytest.mark.skipif(
    bool(LACKING), reason=f"no browser for environments of the web: {', '.join(LACKING)}"
)


@dataclass
class Site:
    """A server: pages by path, as text or as what answers a request; and what it was asked."""

    port: int = 0
    pages: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def site(**pages: str | Callable[[Any], None]) -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            page = found.pages.get(self.path.strip("/").partition("?")[0] or "index", "nothing here")
            with suppress(OSError):
                page(self) if callable(page) else answer(self, page)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Site(server.server_address[1], dict(pages))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        server.shutdown()


def answer(handler: Any, body: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body.encode())))
    handler.end_headers()
    handler.wfile.write(body.encode())


class SiteEnv(BrowseEnv):
    """Browses a site; over when it says so."""

    max_turns = 50

    def __init__(self, site: Site, *more: str, network_mb: int = 8, load_s: float = 30.0, **viewing: Any) -> None:
        super().__init__(Viewing(**viewing))
        self.home = site.url
        self._wants = Settings(
            network=(f"127.0.0.1:{site.port}", *more),
            network_mb=network_mb,
            max_tabs=3,
            action_s=0.3,
            rest_s=0.3,
            load_s=load_s,
        )

    def begin(self, options: Any) -> Any:
        self.open(self._wants, options, partial(goto, url=self.home))
        return self.begun("")

    def judge(self, view: View) -> bool:
        return False

    def hear(self, text: str) -> str:
        self.reward("outcome", float(text == "done"))
        self.finish()
        return "heard"


def until(holds: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Whether it holds within the limit."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def one_browser() -> Iterator[None]:
    """Keep the browser of this process, whatever environments come and go."""
    browsers().join()
    yield
    browsers().leave(waits=True)
