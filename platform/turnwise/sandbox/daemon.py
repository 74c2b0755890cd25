"""The container daemon that answers at `DOCKER_HOST`: one client for a process, and threads to wait in.

The Docker SDK blocks, so that whoever awaits goes through `starting` or `ending`: two sets of threads, since an end
that makes room must not wait behind starts that need it. Only a socket of this machine is spoken to: what the sandbox
shows of the host, and what it watches of the container, is here.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from turnwise.sandbox import SandboxLost

Result = TypeVar("Result")

DEFAULT_HOST = "unix:///var/run/docker.sock"

TIMEOUT_S = 60.0
"""Seconds within which the daemon must answer one request."""

NUM_POOLS = 1024
"""Addresses that the SDK remembers; one that it forgets while it is asked is an error."""

HEAD_BYTES = 65536


class Daemon:
    """A client and its threads."""

    def __init__(self, host: str) -> None:
        """Connect; SandboxLost if nobody answers."""
        import docker

        self.host, self.path = host, host.removeprefix("unix://")
        with lost("the Docker daemon does not answer"):
            self.api = docker.APIClient(base_url=host, version="auto", timeout=TIMEOUT_S, num_pools=NUM_POOLS)
        self.api.headers["Connection"] = (
            "close"  # the SDK keeps a connection for each address, and each container has some
        )
        self._starting = ThreadPoolExecutor(2 * (os.cpu_count() or 1), "container-start")
        self._ending = ThreadPoolExecutor(8, "container-end")

    def starting(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Do what begins something, a few at a time: more at once only wait longer."""
        return asyncio.wrap_future(self._starting.submit(work))

    def ending(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Do what ends something."""
        return asyncio.wrap_future(self._ending.submit(work))

    def attach(self, container: str) -> socket.socket:
        """Return a connection to a container's input and outputs; when it closes, so does the container's input.

        What comes is in frames: one byte for which output, three of nothing, four of length.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(TIMEOUT_S)
            connection.connect(self.path)
            where = f"/v{self.api._version}/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
            words = [f"POST {where} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: tcp", "", ""]
            connection.sendall("\r\n".join(words).encode())
            head = b""
            while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_BYTES and (part := connection.recv(1)):
                head += part
            if head.split(b" ")[1:2] not in ([b"101"], [b"200"]):
                raise OSError(f"the daemon does not attach: {head[:200].decode(errors='replace')}")
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return connection


def host() -> str:
    """Return where the daemon is said to be."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_HOST


def unreachable() -> str | None:
    """Return why no daemon can be spoken to, None if one answers."""
    where = host()
    if not where.startswith("unix://"):
        return f"DOCKER_HOST={where} is not a socket of this machine; name one (unix:///var/run/docker.sock)"
    if not Path(where.removeprefix("unix://")).exists():
        return f"no daemon at {where}; install docker.io and start dockerd, or set DOCKER_HOST"
    try:
        daemon().api.ping()
    except refusals(SandboxLost) as error:
        return f"no daemon answers at {where} ({one_line(error)[:160]}); start dockerd, or set DOCKER_HOST"
    return None


def daemon() -> Daemon:
    """Return this process's client for what `DOCKER_HOST` says now; SandboxLost if nobody answers there."""
    return _daemon(host(), os.getpid())


@functools.cache
def _daemon(where: str, process: int) -> Daemon:  # a fork takes no threads along
    return Daemon(where)


def refusals(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what the SDK raises when something does not work, for an `except`; and others beside."""
    from docker.errors import DockerException

    return (DockerException, OSError, *others)


class lost:  # noqa: N801
    """Turns what the SDK raises into `SandboxLost`, with what was tried."""

    def __init__(self, tried: str) -> None:
        """Say what does not work if it does not."""
        self._tried = tried

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise `SandboxLost` for an error of the SDK's."""
        if error is not None and isinstance(error, refusals()) and not isinstance(error, SandboxLost):
            raise SandboxLost(f"{self._tried}: {one_line(error)[:400]}") from error


def is_absent(error: BaseException) -> bool:
    """Return whether the daemon says that there is no such container or image."""
    from docker.errors import NotFound

    return isinstance(error, NotFound)


def one_line(error: BaseException) -> str:
    """Return what an error says, or its name: the daemon's own words where there are some."""
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__


def state(api: Any, container: str) -> dict[str, Any] | None:
    """Return what the daemon knows of a container; None if it is gone."""
    from docker.errors import NotFound

    try:
        found: dict[str, Any] = api.inspect_container(container)["State"]
    except NotFound:
        return None
    return found
