"""What code in a sandbox may try against the list of hosts that it may reach (D55 and F76 of the list of failures).

The servers are this machine's own, on loopback: they stand for the internet where the list names their address and
port, and for what must not be reached everywhere else. Who looks names up is handed in.
"""

import asyncio
import contextlib
import http.server
import json
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from turnwise.sandbox import Ran
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy

PROXY = ("127.0.0.1", 3128)


@dataclass
class Site:
    """A server on loopback, and what it was asked."""

    port: int
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Host
    bodies: list[bytes] = field(default_factory=list)
    redirect: str = ""
    num_more: int = 0  # bytes that came behind a request


@pytest.fixture
def site() -> Iterator[Site]:
    yield from served()


@pytest.fixture
def neighbour() -> Iterator[Site]:
    """A server that is on no list."""
    yield from served()


def served() -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.command, self.path, self.headers["Host"]))
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"] or 0)))
            with contextlib.suppress(OSError):
                self.connection.settimeout(0.05)
                found.num_more += len(self.rfile.read1(1000))
            self.send_response(302 if found.redirect else 200)
            if found.redirect:
                self.send_header("Location", found.redirect)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Site(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def names(monkeypatch) -> dict[str, list[str]]:
    """What names lead to; a list `asked` has those that were looked up."""
    known: dict[str, list[str]] = {"good.test": ["127.0.0.1"], "asked": []}

    async def look_up(host: str, port: int) -> list[str]:
        known["asked"].append(host)
        return known.get(host, [])

    monkeypatch.setattr("turnwise.sandbox.gate.looked_up", look_up)
    return known


@pytest.fixture
def inside(tier, site, names):
    """Run a command in a sandbox that may reach the site, by name and by address, and other names at port 80."""

    def run(*commands: str, network_mb: int = 64, **options) -> Ran:
        listed = [f"good.test:{site.port}", f"127.0.0.1:{site.port}", "other.test", "*.wild.test"]
        policy = SandboxPolicy(network=listed, network_mb=network_mb, unsafe_private_network=True, processes=128)
        with BlockingSandbox(policy) as box:
            for command in commands:
                ran = box.exec(command, **options)
        return ran

    return run


def python(program: str) -> str:
    return f"python3 -c {shlex.quote(program)}"


def fetch(url: str) -> str:
    """Return a command that asks through the proxy, whatever `no_proxy` says, and prints status and body."""
    program = f"""
import urllib.error, urllib.request as u
u.proxy_bypass = lambda host: False
try:
    with u.urlopen({url!r}, timeout=20) as answer: print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error: print(error.code, error.read().decode().strip())
except OSError as error: print(type(error).__name__)
"""
    return python(program)


def said(*requests: bytes, wait_s: float = 20.0) -> str:
    """Return a command that says these bytes to the proxy, each on a connection, and prints the answers as JSON."""
    program = f"""
import json, socket
answers = []
for request in {list(requests)!r}:
    with socket.create_connection({PROXY!r}, timeout={wait_s}) as proxy:
        proxy.sendall(request)
        answer = b""
        try:
            while part := proxy.recv(65536): answer += part
        except TimeoutError: answer += b"(no end)"
        answers.append(answer.decode("latin-1"))
print(json.dumps(answers))
"""
    return python(program)


def statuses(ran: Ran) -> list[str]:
    return [answer[9:12] for answer in json.loads(ran.stdout)]


def test_a_listed_host_is_reached_in_the_clear_and_by_a_tunnel(inside, site):
    assert inside(fetch(f"http://good.test:{site.port}/a?b=c")).stdout == b"200 hello\n"
    tunnel = f"CONNECT good.test:{site.port} HTTP/1.1\r\n\r\nGET /in HTTP/1.0\r\nHost: x\r\n\r\n".encode()
    (answer,) = json.loads(inside(said(tunnel)).stdout)
    assert answer.startswith("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.0 200")
    assert answer.endswith("hello")
    assert site.asked == [("GET", "/a?b=c", f"good.test:{site.port}"), ("GET", "/in", "x")]


def test_ordinary_programs_find_the_way_by_themselves(inside, site):
    ran = inside(f"curl -s http://good.test:{site.port}/; curl -sp http://good.test:{site.port}/; env | grep -ic proxy")
    if b"not found" in ran.stderr:
        pytest.skip("no curl in this sandbox")
    assert ran.stdout == b"hellohello6\n"


def test_what_is_not_listed_is_refused_counted_and_not_even_looked_up(inside, names, neighbour):
    names["evil.test"] = names["good.test.evil.test"] = ["127.0.0.1"]
    hosts = ["evil.test", "good.test.evil.test", "good.test", "xgood.test", "wild.test", "secret-data.evil.test"]
    ran = inside(" ; ".join(fetch(f"http://{host}/") for host in hosts))
    assert ran.stdout == b"403 not in the sandbox's list\n" * len(hosts)
    assert ran.num_refused == len(hosts)
    assert names["asked"] == []
    assert neighbour.asked == []


def test_a_redirect_is_asked_for_again_and_looked_at_again(inside, site, neighbour):
    targets = [f"http://127.0.0.1:{neighbour.port}/", "http://169.254.169.254/latest/", "http://evil.test/"]
    for target in targets:
        site.redirect = target
        ran = inside(fetch(f"http://good.test:{site.port}/"))
        assert (ran.stdout, ran.num_refused) == (b"403 not in the sandbox's list\n", 1), target
    assert len(site.asked) == len(targets)
    assert neighbour.asked == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["8.8.8.8", "127.0.0.1"],
        ["2002:7f00:1::"],
        ["64:ff9b::7f00:1"],
        ["no address"],
    ],
    ids=str,
)
def test_a_listed_name_that_leads_to_this_machine_or_its_neighbours_is_refused(inside, names, addresses):
    names["other.test"] = names["a.wild.test"] = addresses
    ran = inside(f"{fetch('http://other.test/')}; {fetch('http://a.wild.test/')}")
    assert ran.stdout == b"403 not in the sandbox's list\n" * 2
    assert ran.num_refused == 2


def test_a_name_is_looked_up_once_and_that_address_connected_to(inside, site, monkeypatch):
    answers = iter([["127.0.0.1"], ["10.9.8.7"], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    monkeypatch.setattr("turnwise.sandbox.gate.looked_up", rebinding)
    url = f"http://good.test:{site.port}/"
    ran = inside(" ; ".join([fetch(url)] * 3))
    assert ran.stdout.split(b"\n")[:3] == [b"200 hello", b"403 not in the sandbox's list", b"200 hello"]
    assert next(answers, None) is None


TRICKS = (
    "[::ffff:127.0.0.1]:{port}", "[::ffff:7f00:1]:{port}", "2130706433:{port}", "0x7f000001:{port}",
    "017700000001:{port}", "0177.0.0.1:{port}", "127.1:{port}", "0x7f.1:{port}", "0.0.0.0:{port}", "[::]:{port}",
    "[::1]:{port}", "0:{port}", "localhost:{port}", "127.0.0.1:{neighbour}", "127.0.0.1.:{neighbour}",
    "good.test:{neighbour}", "good.test@evil.test:80", "evil.test#good.test:{port}", "good.test%00.evil.test:80",
    "good.test:{port}:80", "good.test:", ":{port}", "", "169.254.169.254:80", "good.test:99999",
    "\uff11\uff12\uff17.0.0.1:{port}", "*.wild.test:80", "..wild.test:80", "[fe80::1%25lo]:{port}",
    "[127.0.0.1]:{port}",
)  # fmt: skip


@pytest.mark.parametrize(
    "form", ["CONNECT {} HTTP/1.1\r\n\r\n", "GET http://{}/ HTTP/1.1\r\n\r\n"], ids=["tunnel", "clear"]
)
def test_addresses_in_disguise_are_refused(inside, site, neighbour, names, form):
    targets = [trick.format(port=site.port, neighbour=neighbour.port) for trick in TRICKS]
    ran = inside(said(*(form.format(target).encode() for target in targets)))
    found = dict(zip(targets, statuses(ran), strict=True))
    assert set(found.values()) == {"403"}, found
    assert names["asked"] == []
    assert site.asked == neighbour.asked == []


BAD = (
    "GET https://good.test:{port}/ HTTP/1.1\r\n\r\n",
    "GET ftp://good.test:{port}/ HTTP/1.1\r\n\r\n",
    "GET file:///etc/passwd HTTP/1.1\r\n\r\n",
    "GET gopher://good.test:{port}/ HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n",
    "GET http://user:password@good.test:{port}/ HTTP/1.1\r\n\r\n",
    "GET http://evil.test\\@good.test:{port}/ HTTP/1.1\r\n\r\n",
    "GET http://good.test:{port}/ HTTP/2\r\n\r\n",
    "GET http://good.test:{port}/ HTTP/1.1\r\n folded: x\r\n\r\n",
    "GET http://good.test:{port}/ HTTP/1.1\r\nX: a\nHost: b\r\n\r\n",
    "GET http://good.test:{port}/ HTTP/1.1\r\nX : a\r\n\r\n",
    "GET http://good.test:{port}/\r\n\r\n",
    "get http://good.test:{port}/ HTTP/1.1\r\n\r\n",
    "POST http://good.test:{port}/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
    "POST http://good.test:{port}/ HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello",
    "POST http://good.test:{port}/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET http://good.test:{port}/ HTTP/1.1\r\nX: " + "x" * 50_000,
)


def test_requests_that_no_honest_client_sends_are_refused(inside, site):
    requests = [request.format(port=site.port).encode() for request in BAD]
    found = dict(zip(BAD, statuses(inside(said(*requests))), strict=True))
    assert set(found.values()) == {"403"}, found
    chunked = f"POST http://good.test:{site.port}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()
    assert statuses(inside(said(chunked))) == ["411"]
    assert site.asked == []


def test_a_host_is_told_the_name_that_was_looked_at_and_no_second_request_follows(inside, site):
    hidden = f"GET /hidden HTTP/1.1\r\nHost: good.test:{site.port}\r\n\r\n"
    request = f"POST http://good.test:{site.port}/seen HTTP/1.1\r\nHost: evil.test\r\nhost: worse.test\r\n"
    request += f"Connection: keep-alive\r\nContent-Length: 4\r\n\r\nbody{hidden}"
    assert statuses(inside(said(request.encode()))) == ["200"]
    assert site.asked == [("POST", "/seen", f"good.test:{site.port}")]
    assert (site.bodies, site.num_more) == ([b"body"], 0)


def test_without_the_proxy_nothing_is_reached(inside, site, neighbour):
    targets = [("127.0.0.1", site.port), ("127.0.0.1", neighbour.port), ("169.254.169.254", 80), ("8.8.8.8", 53)]
    targets += [("1.1.1.1", 443), (socket.gethostname(), site.port), ("::1", site.port)]
    program = (
        f"import socket\nfor place in {targets!r}:\n  try: socket.create_connection(place, timeout=2); print(place)\n"
    )
    ran = inside(python(program + "  except OSError: pass\n"))
    assert (ran.code, ran.stdout) == (0, b""), ran.stderr


def test_without_a_list_there_is_no_proxy(tier):
    with BlockingSandbox(SandboxPolicy()) as box:
        ran = box.exec(
            "env | grep -i proxy; " + python(f"import socket; socket.create_connection({PROXY!r}, timeout=5)")
        )
    assert ran.stdout == b""
    assert b"ConnectionRefusedError" in ran.stderr


@contextlib.contextmanager
def sink(site_port: list[int]) -> Iterator[list[int]]:
    """Listen, take everything, and count: [bytes, connections at once, at most]."""
    counts = [0, 0, 0]

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts[1] += 1
        counts[2] = max(counts[2], counts[1])
        with contextlib.suppress(OSError):
            while part := await reader.read(65536):
                counts[0] += len(part)
        counts[1] -= 1
        writer.transport.abort()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(take, "127.0.0.1", 0))
    site_port.append(server.sockets[0].getsockname()[1])
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield counts
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        server.close()
        loop.close()


def test_a_flood_of_bytes_is_bounded_and_the_command_goes_on(tier, names):
    port: list[int] = []
    with sink(port) as counts:
        listed = [f"127.0.0.1:{port[0]}"]
        flood = f"""
import socket
proxy = socket.create_connection({PROXY!r})
proxy.sendall(b"CONNECT 127.0.0.1:{port[0]} HTTP/1.1\\r\\n\\r\\n")
try:
    while True: proxy.sendall(bytes(65536))
except OSError: print("ended")
try: socket.create_connection({PROXY!r}); print("open")
except OSError: print("closed")
"""
        policy = SandboxPolicy(network=listed, network_mb=2, unsafe_private_network=True)
        with BlockingSandbox(policy) as box:
            assert box.exec(python(flood)).stdout == b"ended\nclosed\n"
            assert 2**20 < counts[0] <= 2 * 2**20
            assert box.exec("echo on").stdout == b"on\n", "the next command has a share of its own"


def test_connections_at_once_and_in_all_are_bounded(tier, names):
    port: list[int] = []
    with sink(port) as counts:
        policy = SandboxPolicy(network=[f"127.0.0.1:{port[0]}"], network_mb=1, unsafe_private_network=True)
        many = f"""
import socket
held = []
for _ in range(60):
    proxy = socket.create_connection({PROXY!r})
    proxy.sendall(b"CONNECT 127.0.0.1:{port[0]} HTTP/1.1\\r\\n\\r\\n")
    held.append(proxy)
import time; time.sleep(1); print("held")
"""
        endless = f"""
import contextlib, socket
def connect(): return socket.create_connection({PROXY!r})
try:
    while True:
        for _ in range(40): connect().close()
        with connect() as last, contextlib.suppress(OSError):  # those before it were taken once it is:
            last.shutdown(socket.SHUT_WR)  # where too many wait, the system lets further ones wait for a second
            last.recv(1)
except OSError: print("ended")
"""
        with BlockingSandbox(policy) as box:
            assert box.exec(python(many)).stdout == b"held\n"
            assert 1 < counts[2] <= 2 * 16, "so many at once, and so many that are just ending"
            assert box.exec(python(endless), deadline_s=50).stdout == b"ended\n"
            assert box.exec("echo on").stdout == b"on\n"


def test_connections_end_with_their_command(tier, names):
    port: list[int] = []
    with sink(port) as counts:
        policy = SandboxPolicy(network=[f"127.0.0.1:{port[0]}"], unsafe_private_network=True)
        hold = f"""
import socket, time
proxy = socket.create_connection({PROXY!r})
proxy.sendall(b"CONNECT 127.0.0.1:{port[0]} HTTP/1.1\\r\\n\\r\\n")
proxy.recv(1); print("up", flush=True); time.sleep(60)
"""
        with BlockingSandbox(policy) as box:
            left = box.exec(f"({python(hold)} &) ; sleep 1")
            assert left.stdout == b"up\n"
            until = time.monotonic() + 5.0
            while counts[1] and time.monotonic() < until:
                time.sleep(0.01)
            assert (counts[1], counts[2]) == (0, 1)
            assert box.exec(python(hold), deadline_s=1.0).timed_out


def test_who_dawdles_is_ended(inside, site, monkeypatch):
    for name in ("HEAD_S", "IDLE_S"):
        monkeypatch.setattr(f"turnwise.sandbox.gate.{name}", 0.3)
    slow = f"""
import socket, time
proxy = socket.create_connection({PROXY!r})
try:
    for letter in b"GET http://good.test:{site.port}/": proxy.sendall(bytes([letter])); time.sleep(0.05)
    print("all was taken")
except OSError: print("ended")
"""
    assert inside(python(slow)).stdout == b"ended\n"
    began = time.monotonic()
    idle = f"CONNECT good.test:{site.port} HTTP/1.1\r\n\r\n".encode()
    assert statuses(inside(said(idle))) == ["200"]
    assert time.monotonic() - began < 10.0


def test_a_slow_connection_holds_up_no_other(tier, names, site):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and reads nothing
        port = silent.getsockname()[1]
        program = f"""
import socket, urllib.request as u
slow = socket.create_connection({PROXY!r})
slow.sendall(b"CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n")
slow.setblocking(False)
try:
    while True: slow.send(bytes(65536))
except BlockingIOError: pass
print(u.urlopen("http://good.test:{site.port}/", timeout=40).read())
"""
        listed = [f"good.test:{site.port}", f"127.0.0.1:{site.port}", f"127.0.0.1:{port}"]
        with BlockingSandbox(SandboxPolicy(network=listed, unsafe_private_network=True)) as box:
            ran = box.exec(python(program))
    assert ran.stdout == b"b'hello'\n", ran.stderr
