"""A control group for one sandbox, where this process may make one: memory and processes in all, not each.

Version 2 of the interface, or version 1's controllers one by one. Without either, limits of single processes remain.
"""

from __future__ import annotations

import functools
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from turnwise.sandbox.policy import MIB, SandboxPolicy

ROOT = Path("/sys/fs/cgroup")
PREFIX = "turnwise-"


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one group, one in version 2, one a controller in version 1."""

    folders: tuple[Path, ...]

    def add(self, process: int) -> None:
        """Put a process in, and with it all that it will start."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(process))

    def remove(self) -> None:
        """Take the group away once it is empty; a second is given for that."""
        for folder in self.folders:
            for _ in range(100):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:  # the kernel is still ending what was in it
                    time.sleep(0.01)
                else:
                    break


def make(name: str, policy: SandboxPolicy) -> Cgroup | None:
    """Return a new group with the policy's limits; None where none can be made with both, or joined."""
    return _made(name, policy) if is_usable() else None


@functools.cache
def is_usable() -> bool:
    """Return whether a group can be made here and a process be put into it."""
    group = _made(f"probe-{secrets.token_hex(8)}", SandboxPolicy())
    if group is None:
        return False
    probe = subprocess.Popen(["sleep", "10"])
    try:
        group.add(probe.pid)
    except OSError:
        return False
    finally:
        probe.kill()
        probe.wait()
        group.remove()
    return True


def _made(name: str, policy: SandboxPolicy) -> Cgroup | None:
    limits = _limits(policy)
    made: list[Path] = []
    for parent, values in limits:
        folder = parent / f"{PREFIX}{name}"
        try:
            folder.mkdir()
            made.append(folder)
            for file, value in values.items():
                (folder / file).write_text(str(value))
        except OSError:
            Cgroup(tuple(made)).remove()
            return None
    return Cgroup(tuple(made)) if made else None


def _limits(policy: SandboxPolicy) -> list[tuple[Path, dict[str, int]]]:
    memory, spare = policy.memory_mb * MIB, 2  # bwrap and what serves inside
    if (ROOT / "cgroup.controllers").is_file():
        values = {"memory.max": memory, "pids.max": policy.processes + spare}
        swap = {"memory.swap.max": 0} if (ROOT / "memory.swap.max").exists() else {}
        return [(ROOT, {**values, **swap})]
    return [
        (ROOT / "memory", {"memory.limit_in_bytes": memory}),
        (ROOT / "pids", {"pids.max": policy.processes + spare}),
    ]
