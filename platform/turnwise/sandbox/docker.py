"""The tiers `docker` and `gvisor`: a hardened container, with the machine's kernel or with one of its own.

Its first process is `inside.py`, handed over as text, spoken to over the container's input and output; a command
therefore costs what it costs in bubblewrap, and not what `docker exec` does. With gVisor the calls of what runs inside
end in a kernel that is a process of this machine, and whose own calls are few.

Docker's limits hold a container of either. gVisor's runtime may be told to ignore control groups; then its processes
are put into a group of ours, where one can be made. Inside, gVisor needs limits of each process as well: what its
kernel is out of, it ends of.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.attached import SILENCE_S, ContainerLink, first_process, removed
from turnwise.sandbox.cgroup import Cgroup, make
from turnwise.sandbox.container import RUNTIMES, configuration, gvisor_kernel
from turnwise.sandbox.daemon import Daemon, daemon, lost, one_line, refusals, unreachable
from turnwise.sandbox.images import BUILD, Image, find_base, resolved
from turnwise.sandbox.labels import LEASE, new_labels
from turnwise.sandbox.policy import MIB, SandboxPolicy, drawn_uid
from turnwise.sandbox.reaper import reap
from turnwise.sandbox.recipe import STAND_INS
from turnwise.sandbox.seccomp import program
from turnwise.sandbox.served import INSIDE, Served, limits, settings


def missing_docker(tier: Tier, is_other: bool) -> str | None:
    """Return why containers of this tier cannot be used here, None if they can; `is_other`: not of the base image."""
    if why := unreachable():
        return why
    try:
        program()
        found = daemon()
        if RUNTIMES[tier] not in found.api.info()["Runtimes"]:
            return f"the daemon has no runtime {RUNTIMES[tier]}; install runsc and name it in Docker's daemon.json"
        if not is_other and find_base(found) is None:
            return f"no base image; make it with {BUILD}"
        reap(found)
    except (ImportError, RuntimeError) as error:
        return f"no filter of system calls ({one_line(error)}); install libseccomp2 and the package pyseccomp"
    except refusals(SandboxLost) as error:
        return f"the daemon does not answer ({one_line(error)[:160]}); start dockerd, or set DOCKER_HOST"
    return None


@dataclass(frozen=True, slots=True)
class Started:
    """A container that runs, and the connection to it."""

    container: str
    lease: str
    connection: socket.socket


async def open_docker(policy: SandboxPolicy, tier: Tier, where: str = "sandbox.image") -> Served:
    """Start a sandbox; `SandboxLost` if it does not come up; UserError if there is no such image, named by `where`."""
    client = daemon()
    starting = client.starting(lambda: _started(client, policy, tier, where))
    try:
        await _ended(starting)
    except asyncio.CancelledError:
        if starting.exception() is None:
            started = starting.result()
            started.connection.close()
            await client.ending(lambda: removed(client, started.container))
        raise
    started = starting.result()
    reader, writer = await asyncio.open_unix_connection(sock=started.connection, limit=MIB)
    link = ContainerLink(client, started.container, reader, writer)
    box = await Served(tier, policy, link).begin(lambda: link.said)
    try:
        holding = client.starting(lambda: _held(client, policy, tier, started, link))
        await _ended(holding)
        holding.result()
    except BaseException as error:
        await box.close()
        if isinstance(error, refusals()):
            raise SandboxLost(f"the sandbox did not start ({tier.value}): {one_line(error)[:200]}") from error
        raise
    return box


async def _ended(work: asyncio.Future[Any]) -> None:
    """Wait for what cannot be stopped half-way; if cancelled meanwhile, be so once it has ended."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _started(client: Daemon, policy: SandboxPolicy, tier: Tier, where: str) -> Started:
    """Make a container, connect to it, start it."""
    image = resolved(client, policy, where)
    labels = new_labels(tier.value)
    body = configuration(
        policy,
        tier,
        image=image.id,
        command=_command(policy, tier, image, labels[LEASE]),
        uid=drawn_uid(),
        labels=labels,
        shown={**image.shown, **{str(Path(path)): str(Path(path).resolve()) for path in policy.read_only}},
        volumes=image.volumes,
    )
    with lost(f"no container was made ({tier.value})"):
        container = str(client.api.create_container_from_config(body, f"turnwise-{labels[LEASE]}")["Id"])
    connection = None
    try:
        with lost(f"the container did not start ({tier.value})"):
            connection = client.attach(container)
            client.api.start(container)
    except BaseException:
        if connection is not None:
            connection.close()
        removed(client, container)
        raise
    return Started(container, labels[LEASE], connection)


def _command(policy: SandboxPolicy, tier: Tier, image: Image, lease: str) -> list[str]:
    is_docker = tier is Tier.DOCKER
    told = settings(
        policy.workspace,
        limits(policy, in_all=is_docker),
        image.env if is_docker else {**image.env, "PATH": f"{STAND_INS}:{image.env['PATH']}"},
        is_alone=True,
        denied=None if is_docker else program(is_gvisor=True),  # gVisor's runtime drops the container's own filter
        silence_s=SILENCE_S,
    )
    return [*image.python, "-I", "-S", "-c", INSIDE.read_text(encoding="utf-8"), told, lease]


def _held(client: Daemon, policy: SandboxPolicy, tier: Tier, started: Started, link: ContainerLink) -> None:
    """Take hold of the first process, and of a group for those of gVisor that are in none."""
    first = first_process(client, started.container, started.lease)
    if first is None or os.geteuid() != 0:
        return
    held = os.pidfd_open(first)
    group = None
    try:
        if first_process(client, started.container, started.lease) != first:
            raise OSError("the first process ended")
        if tier is Tier.GVISOR and not _is_grouped(first, started.container):
            group = make(policy, kernel=gvisor_kernel(policy))
            if group is not None:
                _add_all(group, first)
    except BaseException:
        os.close(held)
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
            group.remove()
        raise
    link.hold(held, group)


def _is_grouped(process: int, container: str) -> bool:
    """Return whether the daemon's own group holds this process's memory."""
    lines = Path(f"/proc/{process}/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    memory = [line for line in lines if line.split(":")[1] in ("", "memory")]
    return any(container in line for line in memory)


def _add_all(group: Cgroup, first: int) -> None:
    """Put a process and all below it into a group; what they start meanwhile is found in the next round."""
    added: set[int] = set()
    while new := [process for process in _tree(first) if process not in added]:
        for process in new:
            added.add(process)
            with contextlib.suppress(ProcessLookupError):
                group.add(process)


def _tree(first: int) -> list[int]:
    found, rest = [], [first]
    while rest:
        process = rest.pop()
        found.append(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                rest += map(int, children.read_text(encoding="ascii").split())
    return found
