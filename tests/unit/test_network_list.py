"""The list of hosts that a sandbox may reach: entries that are refused, addresses that are not the internet, and an
inside that lies about its connections."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import struct
from typing import Any

import pytest

from turnwise.errors import UserError
from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.gate import Gate, Refused, read_request
from turnwise.sandbox.network import AllowList, is_global, is_own, parse
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.served import Served
from turnwise.sandbox.streams import CHUNK, MAX_OPEN, WINDOW


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("*", "is no host"),
        ("*.", "is no suffix"),
        ("*.com", "is no suffix"),
        ("*.*.com", "is no suffix"),
        ("*.10.0.0.1", "is no suffix"),
        ("a.*.com", "is no host"),
        ("", "is neither host nor host:port"),
        ("a b", "is no host"),
        ("http://example.com", "is neither host nor host:port"),
        ("example.com/path", "is no host"),
        ("user@example.com", "is no host"),
        ("example.com:0", "has no such port"),
        ("example.com:65536", "has no such port"),
        ("example.com:http", "is neither host nor host:port"),
        ("2130706433", "is no host"),
        ("0x7f.0.0.1", "is no host"),
        ("127.1", "is no host"),
        ("0177.0.0.1", "is no host"),
        ("::1", "is neither host nor host:port"),
        ("[fe80::1%eth0]:80", "is neither host nor host:port"),
        ("[1.2.3.4]:80", "is no host"),
        ("localhost", "is a name of this machine"),
        ("db.local:80", "is a name of this machine"),
        ("metadata.google.internal", "is a name of this machine"),
        ("10.0.0.1:80", "leads to this machine or its neighbours"),
        ("127.0.0.1:80", "leads to this machine or its neighbours"),
        ("169.254.169.254:80", "leads to this machine or its neighbours"),
        ("[::1]:80", "leads to this machine or its neighbours"),
        ("[::ffff:8.8.8.8]:80", "leads to this machine or its neighbours"),
        ("0.0.0.0:80", "leads to this machine or its neighbours"),
        (f"{'a' * 64}.com", "is no host"),
        (f"{'a.' * 130}com", "is no host"),
        ("exämple.com", "is no host"),
        ("-a.com", "is no host"),
    ],
)
def test_an_entry_that_is_none_or_leads_here_is_refused(entry: str, problem: str) -> None:
    with pytest.raises(UserError, match=rf"^env\.kwargs\.sandbox\.network=.*{problem}"):
        SandboxPolicy(network=[entry]).check("env.kwargs.sandbox")


def test_entries_that_are_meant_are_taken() -> None:
    listed = [
        "example.com",
        "Example.COM.:8080",
        "*.files.example.com",
        "*.a.io:8443",
        "1.1.1.1",
        "[2606:4700::1111]:443",
    ]
    SandboxPolicy(network=listed).check("sandbox")
    SandboxPolicy(network=["127.0.0.1:80", "[::1]:8080"], unsafe_private_network=True).check("sandbox")
    assert parse("Example.COM.:8080").host == "example.com"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"network": ["127.0.0.1"], "unsafe_private_network": True}, "only reached at one port"),
        ({"network": ["example.com"], "unsafe_private_network": True}, "has no effect"),
        ({"unsafe_private_network": True}, "has no effect"),
        ({"network_mb": 5}, "has no effect"),
        ({"network": ["example.com"], "network_mb": 0}, "is too small"),
    ],
)
def test_keys_of_the_network_without_effect_or_sense_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        SandboxPolicy(**changes).check("sandbox")


def test_an_entry_allows_what_it_says_and_no_more() -> None:
    listed = AllowList(["example.com", "other.org:8080", "*.wild.net", "1.1.1.1"])
    for host, port in [
        ("example.com", 80),
        ("example.com", 443),
        ("other.org", 8080),
        ("a.b.wild.net", 443),
        ("1.1.1.1", 80),
    ]:
        assert listed.has(host, port), (host, port)
    for host, port in [
        ("example.com", 22),
        ("www.example.com", 80),
        ("other.org", 80),
        ("wild.net", 80),
        ("evilwild.net", 80),
        ("example.com.evil.org", 80),
        ("1.1.1.2", 80),
    ]:
        assert not listed.has(host, port), (host, port)


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "93.184.216.34"])
def test_the_internet_is_the_internet(text: str) -> None:
    assert is_global(ipaddress.ip_address(text))
    assert AllowList([]).may_reach(text, 443)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "fe80::1", "fc00::1", "fd00:ec2::254",
        "fec0::1", "ff02::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "2001:0:808:808::1",
    ],
)  # fmt: skip
def test_everything_else_is_not(text: str) -> None:
    assert not is_global(ipaddress.ip_address(text))
    assert not AllowList(["127.0.0.1:81"]).may_reach(text, 80)


@pytest.mark.parametrize("text", ["localhost", "fe80::1%eth0", "2130706433", "", "8.8.8.8 "])
def test_what_is_no_address_is_not_reached(text: str) -> None:
    assert not AllowList([]).may_reach(text, 80)


def test_this_machines_own_addresses_are_known() -> None:
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("192.0.2.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        assert is_own(ipaddress.ip_address(probe.getsockname()[0]))


def test_an_address_of_the_internet_that_is_this_machines_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AllowList([]).may_reach("8.8.8.8", 443)
    monkeypatch.setattr("turnwise.sandbox.network.is_own", lambda address: str(address) == "8.8.8.8")
    assert not AllowList([]).may_reach("8.8.8.8", 443)
    assert AllowList(["8.8.8.8:443"]).may_reach("8.8.8.8", 443), "unless the list says so"


def test_an_address_of_the_list_is_reached_at_its_port_alone() -> None:
    listed = AllowList(["127.0.0.1:8080"])
    assert listed.may_reach("127.0.0.1", 8080)
    assert not listed.may_reach("127.0.0.1", 80)
    assert not listed.may_reach("127.0.0.2", 8080)


def test_a_long_line_takes_no_long_time() -> None:
    with pytest.raises(Refused):
        read_request(b"GET http://a.b/ HTTP/1.1\r\nX: " + b" \t" * 16_000 + b"\x00")


class Inside:
    """The other end of a link, which says what a test wants; it takes what comes."""

    def __init__(self, *said: tuple[Any, bytes]) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._said = b"".join(framed(header, data) for header, data in said)
        self.sent = bytearray()
        self.is_closed = False

    async def send(self, data: bytes) -> None:
        self.sent += data

    async def receive(self, size: int) -> bytes:
        if len(self._said) < size:
            await asyncio.sleep(0.05)
            raise EOFError
        part, self._said = self._said[:size], self._said[size:]
        return part

    def end(self) -> None:
        self.is_closed = True

    async def close(self) -> str:
        self.end()
        return "it was ended"


def framed(header: Any, data: bytes = b"") -> bytes:
    head = json.dumps({**header, "size": len(data)} if isinstance(header, dict) else header).encode()
    return struct.pack(">I", len(head)) + head + data


OPEN = ({"stream": 1, "does": "open"}, b"")
LIES: dict[str, list[tuple[Any, bytes]]] = {
    "a stream that was never opened": [({"stream": 1, "does": "data"}, b"x")],
    "a stream twice": [OPEN, OPEN],
    "numbers that fall": [({"stream": 5, "does": "open"}, b""), ({"stream": 4, "does": "open"}, b"")],
    "number 0": [({"stream": 0, "does": "open"}, b"")],
    "a number that is a text": [({"stream": "1", "does": "open"}, b"")],
    "a number that is a truth": [({"stream": True, "does": "open"}, b"")],
    "nothing that it does": [({"stream": 1}, b"")],
    "a deed that is none": [OPEN, ({"stream": 1, "does": "explode"}, b"")],
    "a deed that is a list": [({"stream": 1, "does": ["open"]}, b"")],
    "too many at once": [({"stream": n, "does": "open"}, b"") for n in range(1, MAX_OPEN + 2)],
    "data where none belongs": [({"stream": 1, "does": "open"}, b"x")],
    "no data where some belongs": [OPEN, ({"stream": 1, "does": "data"}, b"")],
    "more data than a message has": [OPEN, ({"stream": 1, "does": "data"}, bytes(CHUNK + 1))],
    "more data than was taken": [OPEN] + [({"stream": 1, "does": "data"}, bytes(CHUNK))] * (WINDOW // CHUNK + 1),
    "data after its end": [OPEN, ({"stream": 1, "does": "eof"}, b""), ({"stream": 1, "does": "data"}, b"x")],
    "taken, but how much": [OPEN, ({"stream": 1, "does": "taken"}, b"")],
    "taken without having been given": [OPEN, ({"stream": 1, "does": "taken", "count": 1}, b"")],
    "taken less than nothing": [OPEN, ({"stream": 1, "does": "taken", "count": -1}, b"")],
    "more than a command may send": [OPEN, ({"stream": 1, "does": "end"}, b"")]
    + [({"stream": 1, "does": "data"}, bytes(CHUNK))] * 160,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_an_inside_that_lies_about_its_connections_is_ended(lie: list[tuple[Any, bytes]]) -> None:
    async def ask() -> None:
        link = Inside(*lie)
        box = Served(Tier.BUBBLEWRAP, SandboxPolicy(network=["example.com"], network_mb=1), link)
        with pytest.raises(SandboxLost, match=r"it answered what is no answer"):
            await box.exec("true", deadline_s=5)
        assert link.is_closed
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(ask())


@pytest.mark.parametrize("network", [[], ["example.com"]], ids=["none", "some"])
def test_an_inside_without_a_command_or_a_list_has_no_connections(network: list[str]) -> None:
    async def ask() -> None:
        box = Served(Tier.BUBBLEWRAP, SandboxPolicy(network=network), Inside(OPEN))
        with pytest.raises(SandboxLost, match="no answer"):
            await (box.read("x") if network else box.exec("true"))

    asyncio.run(ask())


def test_a_plain_process_has_no_gate() -> None:
    async def ask() -> bytearray:
        link = Inside()
        policy = SandboxPolicy(network=["example.com"], minimum="process", unsafe_process=True)
        with pytest.raises(SandboxLost):
            await Served(Tier.PROCESS, policy, link).exec("true")
        return link.sent

    assert b"proxy" not in asyncio.run(ask())


def test_a_name_that_is_not_found_is_no_refusal() -> None:
    gate = Gate(["example.com"], nothing)
    assert asyncio.run(answered(gate, b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
    assert gate.num_refused == 0


async def nothing(host: str, port: int) -> list[str]:
    raise socket.gaierror(host)


async def answered(gate: Gate, request: bytes) -> bytes:
    class Wire:
        said = b""

        async def read(self, most: int) -> bytes:
            return request

        async def write(self, data: bytes) -> None:
            self.said += data

    wire = Wire()
    await gate.serve(wire)  # type: ignore[arg-type]
    return wire.said
