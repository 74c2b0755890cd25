"""What a sandbox may use. There is no switch for privileges, devices, the host's network or its sockets: what the
network list allows is reached through a proxy of ours alone.

Environments take a `SandboxPolicy` among their options; `check` is called before anything starts.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from turnwise.config.checks import check_bounds
from turnwise.config.keys import specs
from turnwise.config.schema import key
from turnwise.errors import UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.network import check_network

MIB = 2**20

WORKSPACE = "/workspace"
"""The folder of a sandbox's own, where a tier confines, unless the policy names another one."""

FIRST_UID, NUM_UIDS = 1_000_000_000, 1_000_000_000
"""Of the machine's own users: one a sandbox, drawn anew, that nothing belongs to."""

TMP_MB = 64
"""MiB of files in each of `/tmp` and `/dev/shm`, beside those in the workspace."""

FORBIDDEN = ("/", "/home", "/root", "/tmp", "/var", "/var/lib", "/var/log", "/var/spool")
"""Host folders that are never shown as a whole, since they hold keys, sockets and what belongs to others."""

WITHIN = ("/dev", "/etc", "/proc", "/run", "/sys")
"""Host folders of which no part is shown."""

NO_WORKSPACE = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr")
"""Folders at the root that programs need, or that are made anew: no workspace lies there."""

HIDDEN_BUT_HARMLESS = (".pyenv", ".venv")
"""Names with a dot that may be shown: where a Python is."""


IMAGE = re.compile(r"[a-zA-Z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII)
PLACE = re.compile(r"(/[\w.-]+)+", re.ASCII)


@dataclass
class SandboxPolicy:
    """Limits of one sandbox, and how strong it must be."""

    minimum: str = key(
        Tier.BUBBLEWRAP.value, "the weakest tier that will do", one_of=tuple(tier.value for tier in Tier)
    )
    unsafe_process: bool = key(False, "allow the tier process, which confines nothing: for code that you trust")
    read_only: list[str] = key([], "folders of the host that are shown inside, at the same place, read-only")  # noqa: RUF009
    image: str = key("", "the container's image; empty: this machine's own; a tier without images refuses another")
    workspace: str = key(WORKSPACE, "where the workspace lies, in another image; what that has there is hidden")
    cpus: float = key(1.0, "CPUs' worth of time, where there is a control group", at_least=0.05)
    memory_mb: int = key(
        512, "MiB of memory for processes, in all where there is a control group, else each", at_least=16
    )
    processes: int = key(64, "processes and threads at once", at_least=4, at_most=4096)
    disk_mb: int = key(256, "MiB of files in the workspace; they are held in memory", at_least=1)
    files: int = key(256, "open files of a process", at_least=16)
    output_kb: int = key(64, "KiB of each output of a command that are kept", at_least=1)
    wall_s: float = key(60.0, "seconds that a command may take", above=0)
    network: list[str] = key([], "hosts that may be reached: `host`, `host:port`, `*.name.tld`; none: no network")  # noqa: RUF009
    network_mb: int = key(
        64, "MiB that a command may move over the network, both ways", only_if=("network", True), at_least=1
    )
    unsafe_private_network: bool = key(
        False,
        "allow addresses of this machine and its neighbours in `network`, each with its port",
        only_if=("network", True),
    )

    def check(self, field: str) -> None:
        """UserError for what weakens the sandbox, or cannot be; `field` is where the policy stands."""
        known = {f"{field}.{name}": spec for name, spec in specs(SandboxPolicy).items()}
        check_bounds({f"{field}.{name}": value for name, value in vars(self).items()}, known)
        if self.minimum == Tier.PROCESS and not self.unsafe_process:
            problem = "a plain process confines nothing"
            raise UserError(f"{field}.minimum", self.minimum, problem, "set unsafe_process=true if the code is trusted")
        if self.disk_mb > self.memory_mb:
            problem = f"a snapshot of so much does not fit into memory_mb={self.memory_mb}"
            raise UserError(f"{field}.disk_mb", self.disk_mb, problem, f"set {field}.memory_mb to at least this")
        if self.image and not IMAGE.fullmatch(self.image):
            raise UserError(
                f"{field}.image", self.image, "is not an image's name", "write [registry/]name[:tag|@digest]"
            )
        self._check_workspace(f"{field}.workspace")
        check_network(field, self.network, unsafe_private=self.unsafe_private_network)
        if not self.network and self.network_mb != SandboxPolicy.network_mb:
            problem = f"has no effect because {field}.network is empty"
            raise UserError(f"{field}.network_mb", self.network_mb, problem, f"remove it or set {field}.network")
        for shown in self.read_only:
            _check_shown(f"{field}.read_only", shown)

    def _check_workspace(self, field: str) -> None:
        if self.workspace == WORKSPACE:
            return
        if not self.image:
            raise UserError(field, self.workspace, "has no effect without an image", "remove it, or name an image")
        is_plain = PLACE.fullmatch(self.workspace) and not {".", ".."} & set(self.workspace.split("/"))
        if not is_plain or self.workspace.split("/")[1] in NO_WORKSPACE:
            raise UserError(field, self.workspace, "no workspace can lie there", "name a folder such as /testbed")


def environment() -> dict[str, str]:
    """Return the variables of a command, where files stand as they do on this machine."""
    path = f"{interpreter() / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": WORKSPACE, "USER": "agent", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


def interpreter() -> Path:
    """Return the folder of the Python that runs inside, that of this process without its virtual environment."""
    return Path(sys.base_prefix).resolve()


def drawn_uid() -> int:
    """Return a user for one sandbox."""
    return FIRST_UID + secrets.randbelow(NUM_UIDS)


def _check_shown(field: str, shown: str) -> None:
    path = Path(os.path.normpath(shown))
    if not path.is_absolute():
        raise UserError(field, shown, "is not an absolute path", "write it from / on")
    real = path.resolve()
    if not real.is_dir():
        raise UserError(field, shown, "is not a folder here", "name one that is there")
    is_home = real in (Path.home(), Path("/home") / real.name)
    is_within = any(real.is_relative_to(folder) for folder in WITHIN)
    is_hidden = any(part.startswith(".") and part not in HIDDEN_BUT_HARMLESS for part in real.parts)
    if str(real) in FORBIDDEN or is_home or is_within or is_hidden:
        problem = "holds what a sandbox must not see (keys, sockets, other processes)"
        raise UserError(field, shown, problem, "name the one folder that is needed")
