"""Which hosts a sandbox may reach: the entries of a policy's `network`, and which addresses count as the internet.

An entry is a host, `host:port`, or `*.suffix` with or without a port; without one it means ports 80 and 443. What a
name leads to is looked at after it was looked up: no name leads to this machine or its neighbours, whoever owns it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from turnwise.errors import UserError

PORTS = (80, 443)
"""What an entry without a port means."""

MAX_NAME = 253

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")  # a last label like this makes some programs read the whole as an address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_HERE = ("localhost", "local", "internal")
"""Last labels of names that lead to this machine or its neighbours, and never to the internet."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the list."""

    host: str  # a name, an address, or for a suffix what stands behind `*.`
    port: int | None  # None: `PORTS`
    is_suffix: bool = False

    @property
    def address(self) -> Address | None:
        """The address that the entry is, None for a name."""
        return None if self.is_suffix else address_of(self.host)

    @property
    def is_private(self) -> bool:
        """Whether it is an address that is not on the internet."""
        return self.address is not None and not is_global(self.address)

    def has(self, host: str, port: int) -> bool:
        """Whether it allows this host, in the form of `plain_host`, at this port."""
        is_host = host.endswith(f".{self.host}") if self.is_suffix else host == self.host
        return is_host and (port in PORTS if self.port is None else port == self.port)


class AllowList:
    """What is allowed in all."""

    def __init__(self, entries: Sequence[str]) -> None:
        """Take entries that `check_network` has seen; ValueError."""
        self._entries = [parse(text) for text in entries]

    def has(self, host: str, port: int) -> bool:
        """Whether some entry allows this host, in the form of `plain_host`, at this port."""
        return any(entry.has(host, port) for entry in self._entries)

    def may_reach(self, address: str, port: int) -> bool:
        """Whether what a host was found to be may be connected to: the internet, or an address that is an entry."""
        found = address_of(address)
        if found is None:
            return False
        is_listed = any(entry.address == found and entry.port == port for entry in self._entries)
        return is_listed or (is_global(found) and not is_own(found))


def check_network(field: str, entries: Sequence[str], *, unsafe_private: bool) -> None:
    """UserError for entries that are none, or that lead to this machine or its neighbours without being meant to."""
    for text in entries:
        try:
            entry = parse(text)
        except ValueError as error:
            raise UserError(f"{field}.network", text, str(error), "write host, host:port or *.name.tld") from None
        if entry.is_private and not unsafe_private:
            problem = "leads to this machine or its neighbours"
            remedy = f"remove it, or set {field}.unsafe_private_network=true if that is meant"
            raise UserError(f"{field}.network", text, problem, remedy)
        if entry.is_private and entry.port is None:
            problem = "an address that is not on the internet is only reached at one port"
            raise UserError(f"{field}.network", text, problem, f"write {text}:PORT")
    if unsafe_private and not any(parse(text).is_private for text in entries):
        problem = f"has no effect because no entry of {field}.network is such an address"
        raise UserError(f"{field}.unsafe_private_network", "true", problem, "remove it")


def parse(text: str) -> Entry:
    """Return what an entry says; ValueError, with the reason."""
    host, port = split_port(text)
    if host.startswith("*."):
        suffix = plain_host(host[2:])
        if suffix is None or address_of(suffix) is not None or "." not in suffix:
            raise ValueError("is no suffix: at least name.tld after the star")
        return Entry(host=suffix, port=port, is_suffix=True)
    plain = plain_host(host)
    if plain is None:
        raise ValueError("is no host")
    if address_of(plain) is None and plain.rpartition(".")[2] in _HERE:
        raise ValueError("is a name of this machine or its neighbours")
    return Entry(host=plain, port=port)


def split_port(text: str) -> tuple[str, int | None]:
    """Return host and port of `host`, `host:port` or `[address]:port`; ValueError."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?", text)
    if match is None:
        raise ValueError("is neither host nor host:port")
    port = int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("has no such port")
    return match[1], port


def plain_host(text: str) -> str | None:
    """Return a host in the one form that is compared: lower case, no brackets, no last dot; None if it is none.

    Numbers that only some programs take for an address (2130706433, 0x7f.1, 127.1, 0177.0.0.1) are none.
    """
    if text.startswith("["):
        address = address_of(text[1:-1])
        return str(address) if isinstance(address, ipaddress.IPv6Address) else None
    name = text.lower().removesuffix(".")
    if (address := address_of(name)) is not None:
        return str(address) if isinstance(address, ipaddress.IPv4Address) else None
    labels = name.split(".")
    is_name = len(name) <= MAX_NAME and all(_LABEL.fullmatch(label) for label in labels)
    return name if is_name and not _NUMBER.fullmatch(labels[-1]) else None


def address_of(text: str) -> Address | None:
    """Return the address that a text is, None if it is none; with a zone it is none."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def is_global(address: Address) -> bool:
    """Whether an address is one host's on the internet, and not another address in disguise."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        is_wrapped = address.ipv4_mapped or address.sixtofour or address.teredo or address in _NAT64
        return not is_wrapped and not address.is_site_local
    return True


def is_own(address: Address) -> bool:
    """Whether an address is one of this machine's: the way to it begins where it ends. Nothing is sent."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return address_of(str(probe.getsockname()[0])) == address
