"""Sandboxes: where code that nobody vouches for runs. One interface, several tiers, the strongest present one chosen.

Environments and scorers open one with `source.open_here`, or `blocking.BlockingSandbox` where nothing is awaited;
`policy.py` says what it may use. A tier is a file of its own. What comes out of a sandbox is untrusted: bytes with a
bound, and words of `Reason`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from turnwise.errors import InfraError, TurnwiseError


class Tier(StrEnum):
    """How code is confined, best first; a trajectory carries it as `sandbox_tier`."""

    GVISOR = "gvisor"  # a container with a kernel of its own, which is a process of this machine
    DOCKER = "docker"  # a hardened container; the machine's own kernel
    PODMAN = "podman"  # the same of an ordinary user, without a daemon
    BUBBLEWRAP = "bubblewrap"  # namespaces, no capability, seccomp, limits; the machine's own kernel
    PROCESS = "process"  # a plain process of this user: no confinement at all


class Reason(StrEnum):
    """Why a file could not be read or written; all that a sandbox may say of it."""

    MISSING = "missing"
    NOT_A_FILE = "not a file"
    TOO_LARGE = "too large"
    NO_SPACE = "no space"
    DENIED = "denied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What became of a command."""

    code: int | None  # exit status; minus the signal that ended it; None: the deadline did
    stdout: bytes  # its first `output_bytes`
    stderr: bytes  # the same
    num_stdout: int  # bytes that it wrote
    num_stderr: int
    seconds: float
    num_refused: int = 0  # requests over the network that its policy does not allow

    @property
    def timed_out(self) -> bool:
        """Whether the deadline ended it."""
        return self.code is None

    @property
    def is_truncated(self) -> bool:
        """Whether it wrote more than is here."""
        return self.num_stdout > len(self.stdout) or self.num_stderr > len(self.stderr)


class SandboxLost(InfraError):  # noqa: N818 - what happened, as in `failures/`
    """The sandbox is gone, or does not answer: killed, out of memory, its machine lost. Open another."""


class FileRefused(TurnwiseError):  # noqa: N818
    """A file of a sandbox could not be read or written; the sandbox goes on."""

    def __init__(self, path: str, reason: Reason) -> None:
        """Name the path, as it was asked for, and the reason."""
        self.path, self.reason = path, reason
        super().__init__(path, reason)  # as they are, so that it comes through a process's border

    def __str__(self) -> str:
        """Return `path: reason`."""
        return f"{self.path}: {self.reason.value}"


class Sandbox(Protocol):
    """One place to run commands in, with a folder of its own. One thing at a time; what is asked meanwhile waits.

    Paths that are not absolute begin at the workspace. `SandboxLost` from everything but `close` once it is gone.
    """

    tier: Tier

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        deadline_s: float | None = None,
        output_bytes: int | None = None,
    ) -> Ran:
        """Run a command, a text with `sh`; when it ends, all that it started ends too.

        Limits left open are the policy's, and are never above them. ValueError for a command with a NUL.
        """
        ...

    async def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Return a file's content. `FileRefused` where there is none, or more than `max_bytes` of it."""
        ...

    async def write(self, path: str, data: bytes) -> None:
        """Make or replace a file, and the folders above it. `FileRefused` where that cannot be."""
        ...

    async def snapshot(self) -> bytes:
        """Return the workspace as a tar archive, for `restore`, here or in another sandbox."""
        ...

    async def restore(self, archive: bytes) -> None:
        """Make the workspace what it was in `snapshot`. `FileRefused` for an archive that leads out of it."""
        ...

    async def reset(self) -> bool:
        """Make it as it was when it started; False where that is not proven: close it then."""
        ...

    async def close(self) -> None:
        """End everything in it and leave nothing behind; may be called twice."""
        ...
