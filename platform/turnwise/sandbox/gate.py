"""The gate to the network: an HTTP proxy for one sandbox, outside of it, that lets through what its policy lists.

`served.py` opens one a sandbox, whose connections come out as streams (`streams.py`); the environments of the web open
one a browser's session. Each connection is one request,
`CONNECT host:port` or a `http://` address. The host has to be on the list; then its name is looked up here, once; every
address that this gives has to be allowed; and one of those is connected to. A redirect goes back to who asked, who
comes again: every hop is looked at. What is inside a `CONNECT` (TLS) is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from turnwise.sandbox.network import AllowList, address_of, plain_host, split_port
from turnwise.sandbox.streams import CHUNK

HEAD_S = 10.0
"""Seconds for a request to come, its body left out."""

CONNECT_S = 10.0
"""Seconds for looking a name up and connecting."""

IDLE_S = 30.0
"""Seconds without a byte either way after which a connection is ended."""

MAX_HEAD = 32768
"""Bytes of a request without its body."""

NUM_LOOKUPS = 16
"""Names that this process looks up at once."""

REFUSED = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 26\r\n\r\nnot in the sandbox's list\n"
UNREACHED = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
LENGTH_WANTED = b"HTTP/1.1 411 Length Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

HOP = ("connection", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te")
HOP_TOO = ("trailer", "transfer-encoding", "upgrade")
"""Headers that are for us and not for the host, or that we write anew."""

_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"[!-~]+")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class Connection(Protocol):
    """Who asks: a stream out of a sandbox, or a socket."""

    async def read(self, most: int) -> bytes:
        """Return the next bytes, b"" at the end; OSError once it is gone."""

    async def write(self, data: bytes) -> None:
        """Send; OSError once it is gone."""


class Refused(Exception):  # noqa: N818
    """A request that is not let through; holds the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What was asked for."""

    host: str  # as `plain_host` returns it
    port: int
    head: bytes | None  # what the host is sent; None: a tunnel
    num_body: int = 0  # bytes that follow it


class Gate:
    """Serves the connections of one sandbox, and counts."""

    def __init__(self, allowed: Sequence[str], look_up: Lookup | None = None) -> None:
        """`allowed` has passed `check_network`; `look_up` returns the addresses of a host."""
        self._allowed, self._look_up = AllowList(allowed), look_up
        self.num_refused = 0

    async def serve(self, stream: Connection) -> None:
        """Answer one connection; OSError where the inside is gone."""
        try:
            async with asyncio.timeout(HEAD_S):
                request, rest = await self._request(stream)
            reader, writer = await self._connected(request)
        except Refused as error:
            self.num_refused += error.args[0] is REFUSED
            await stream.write(error.args[0])
            return
        except (EOFError, TimeoutError):
            return
        try:
            await _carry(stream, request, rest, reader, writer)
        except TimeoutError:
            return
        finally:
            writer.transport.abort()

    async def _request(self, stream: Connection) -> tuple[Request, bytes]:
        """Return what is asked for, and what came behind it already."""
        data = bytearray()
        while b"\r\n\r\n" not in data:
            if len(data) > MAX_HEAD:
                raise Refused(REFUSED)
            part = await stream.read(CHUNK)
            if not part:
                raise EOFError
            data += part
        head, _, rest = bytes(data).partition(b"\r\n\r\n")
        return read_request(head), rest

    async def _connected(self, request: Request) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to an address that was looked at."""
        if not self._allowed.has(request.host, request.port):
            raise Refused(REFUSED)
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await self._addresses(request)
                if not found or not all(self._allowed.may_reach(address, request.port) for address in found):
                    raise Refused(REFUSED if found else UNREACHED)
                return await _first_that_answers(found, request.port)
        except (OSError, UnicodeError):  # a TimeoutError is an OSError
            raise Refused(UNREACHED) from None

    async def _addresses(self, request: Request) -> Sequence[str]:
        """Return what a host leads to; an address leads to itself."""
        if address_of(request.host) is not None:
            return [request.host]
        return await (self._look_up or looked_up)(request.host, request.port)


def read_request(head: bytes) -> Request:
    """Return what a request without its body asks for; `Refused` for what no honest client sends."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not _METHOD.fullmatch(parts[0]) or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refused(REFUSED)
    matches = [_HEADER.fullmatch(line) for line in lines]
    headers = [(match[1], match[2].strip(" \t")) for match in matches if match is not None]
    if len(headers) < len(lines) or not _TARGET.fullmatch(parts[1]):
        raise Refused(REFUSED)
    method, target = parts[0], parts[1]
    if method == "CONNECT":
        host, port = _host_of(target, None)
        return Request(host=host, port=port, head=None)
    return _plain_request(method, target, headers)


def _plain_request(method: str, target: str, headers: Sequence[tuple[str, str]]) -> Request:
    """Return a request in the clear, with the header `Host` that its address has, whatever it said itself."""
    scheme, separator, _ = target.partition("://")
    try:
        url = urlsplit(target)
    except ValueError:
        raise Refused(REFUSED) from None
    if scheme.lower() != "http" or not separator or "@" in url.netloc or "\\" in target:
        raise Refused(REFUSED)
    host, port = _host_of(url.netloc, 80)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {_in_url(host)}{'' if port == 80 else f':{port}'}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in HOP + HOP_TOO]
    head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
    return Request(host=host, port=port, head=head, num_body=_num_body(headers))


def _num_body(headers: Sequence[tuple[str, str]]) -> int:
    """Return the bytes of the body; what has no length, or two, is not sent on: a second request may hide in it."""
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        raise Refused(REFUSED if lengths else LENGTH_WANTED)
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,15}", length) for length in lengths):
        raise Refused(REFUSED)
    return int(lengths[0]) if lengths else 0


def _host_of(text: str, port: int | None) -> tuple[str, int]:
    """Return host and port of `host:port`; `port` where it names none."""
    try:
        host, named = split_port(text)
    except ValueError:
        raise Refused(REFUSED) from None
    plain = plain_host(host)
    if plain is None or (named or port) is None:
        raise Refused(REFUSED)
    return plain, named or port or 0


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _first_that_answers(addresses: Sequence[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to one of the addresses, which are no names: nothing is looked up here. OSError."""
    last = OSError("no address")
    for address in addresses:
        try:
            return await asyncio.open_connection(address, port, limit=CHUNK)
        except OSError as error:
            last = error
    raise last


async def _carry(
    stream: Connection, request: Request, rest: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry bytes both ways until the host has closed, or nothing moves."""
    async with asyncio.timeout(IDLE_S) as idle:
        if request.head is None:
            await stream.write(CONNECTED)
            sending = _send_all(stream, rest, writer, idle)
        else:
            writer.write(request.head)
            sending = _send_body(stream, rest, request.num_body, writer, idle)
        both = [asyncio.create_task(sending), asyncio.create_task(_receive_all(stream, reader, idle))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


async def _receive_all(stream: Connection, reader: asyncio.StreamReader, idle: asyncio.Timeout) -> None:
    """Pass on what the host sends; EOFError once that is all."""
    while part := await reader.read(CHUNK):
        _moved(idle)
        await stream.write(part)
    raise EOFError


async def _send_all(stream: Connection, rest: bytes, writer: asyncio.StreamWriter, idle: asyncio.Timeout) -> None:
    part = rest or await stream.read(CHUNK)
    while part:
        await _sent(part, writer, idle)
        part = await stream.read(CHUNK)
    writer.write_eof()


async def _send_body(
    stream: Connection, rest: bytes, num_body: int, writer: asyncio.StreamWriter, idle: asyncio.Timeout
) -> None:
    """Send the body and not a byte more."""
    part = rest
    while num_body:
        await _sent(part[:num_body], writer, idle)
        num_body -= min(num_body, len(part))
        part = await stream.read(CHUNK) if num_body else b""
        if num_body and not part:
            raise EOFError
    await writer.drain()


async def _sent(part: bytes, writer: asyncio.StreamWriter, idle: asyncio.Timeout) -> None:
    writer.write(part)
    await writer.drain()
    _moved(idle)


def _moved(idle: asyncio.Timeout) -> None:
    with contextlib.suppress(RuntimeError):  # it has just run out
        idle.reschedule(asyncio.get_running_loop().time() + IDLE_S)


async def looked_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order of this machine's resolver; OSError."""
    asked = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_threads(), asked)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(NUM_LOOKUPS, thread_name_prefix="names")
