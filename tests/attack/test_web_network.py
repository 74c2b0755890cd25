"""What pages may try against the list of hosts that a browser may reach (F76 of the list of failures).

Servers on loopback stand for the internet where they are listed, and elsewhere for what must not be reached.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from web_pieces import Site, SiteEnv, answer, needs_browser, one_browser, site, until

pytestmark = needs_browser


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[None]:
    with one_browser():
        yield


@pytest.fixture
def neighbour() -> Iterator[Site]:
    """A server that is on no list."""
    with site(index="secret") as found:
        yield found


@pytest.fixture
def page() -> Iterator[Site]:
    with site(index="<p>home</p>") as found:
        yield found


def opened(page: Site, *more: str, **options: Any) -> SiteEnv:
    env = SiteEnv(page, *more, **options)
    env.reset(seed=0)
    return env


def shown(env: SiteEnv, action: str) -> str:
    return str(env.step(action)[0][0]["content"])


def test_a_redirect_to_what_is_not_listed_is_not_followed(page: Site, neighbour: Site) -> None:
    page.pages["away"] = lambda handler: answer(handler, "", 302, Location=f"{neighbour.url}/")
    env = opened(page)
    said = shown(env, f"goto {page.url}/away")
    assert "not in the sandbox's list" in said
    assert "secret" not in said
    assert neighbour.asked == []
    env.close()


def test_no_other_way_of_writing_an_address_leads_to_a_neighbour(page: Site, neighbour: Site) -> None:
    port = neighbour.port
    hosts = [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "localhost",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "a:b@127.0.0.1",
    ]
    page.pages["index"] = "".join(f"<img src='http://{host}:{port}/'>" for host in [*hosts, "127.0.0.1", "x.test"])
    page.pages["index"] += f"<iframe src='{neighbour.url}'></iframe><link rel=preconnect href='{neighbour.url}'>"
    env = opened(page)
    shown(env, "noop 300")
    for host in hosts:
        assert shown(env, f"goto http://{host}:{port}/").startswith("error: ")
    assert neighbour.asked == []
    env.close()


def test_a_name_that_leads_elsewhere_the_second_time_is_refused(
    page: Site, neighbour: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["127.0.0.1"], ["10.1.2.3"], ["127.0.0.1", "169.254.169.254"], ["::ffff:127.0.0.1"]]

    async def look_up(host: str, port: int) -> list[str]:
        return answers.pop(0) if answers else []

    monkeypatch.setattr("turnwise.sandbox.gate.looked_up", look_up)
    page.pages["favicon.ico"] = ""
    env = opened(page, f"good.test:{page.port}")
    assert "home" in shown(env, f"goto http://good.test:{page.port}/?1")
    asked = len(page.asked)
    for number in (2, 3, 4):
        assert "home" not in shown(env, f"goto http://good.test:{page.port}/?{number}")
    assert len(page.asked) == asked
    env.close()


def test_files_sockets_and_workers_are_no_way_out(page: Site, neighbour: Site) -> None:
    tries = """<p id=said></p><a href="file:///etc/passwd">file</a><script>
    const say = (text) => document.getElementById("said").textContent += text + ";";
    say([typeof WebSocket, typeof RTCPeerConnection, typeof WebTransport].join());
    fetch("file:///etc/passwd").then(() => say("FILE"), () => say("no file"));
    navigator.serviceWorker.register("/worker").catch(() => 0).then(() => navigator.serviceWorker.getRegistrations())
      .then((found) => say(found.length ? "SERVICE" : "no service"));
    const worker = new Worker("/worker");
    worker.onmessage = (event) => say(event.data);
    </script>"""
    page.pages["index"] = tries
    page.pages["worker"] = lambda handler: answer(
        handler,
        f"""const socket = new WebSocket("ws://127.0.0.1:{neighbour.port}/");
        socket.onopen = () => postMessage("OPEN"); socket.onerror = () => postMessage("no socket");""",
        Content_Type="text/javascript",
    )
    env = opened(page)
    said = shown(env, "noop 300")
    assert until(lambda: "no socket" in shown(env, "noop 100"), 10)
    said = shown(env, "noop")
    for expected in ("undefined,undefined,undefined", "no file", "no service"):
        assert expected in said
    assert said.count("FILE") + said.count("SERVICE") + said.count("OPEN") == 0
    assert "root:" not in shown(env, "click 2")
    assert neighbour.asked == []
    env.close()


def test_bytes_without_end_and_bytes_without_haste_are_bounded(page: Site) -> None:
    sent = [0]

    def flood(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while sent[0] < 2**30:
                sent[0] += handler.wfile.write(b"x" * 65536)

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            for _ in range(100):
                handler.wfile.write(b"<p>x")
                time.sleep(0.1)

    page.pages.update(flood=flood, drip=drip)
    env = opened(page, network_mb=4, load_s=3.0)
    began = time.monotonic()
    shown(env, f"goto {page.url}/drip")
    assert "home" in shown(env, f"goto {page.url}/")
    shown(env, f"goto {page.url}/flood")
    assert sent[0] < 32 * 2**20
    assert shown(env, f"goto {page.url}/").startswith("error: ")  # this episode has had its bytes
    assert time.monotonic() - began < 60
    env.reset(seed=0)
    assert "home" in shown(env, "noop")
    env.close()
