"""A control group for one sandbox, where this process may make one: memory and processes in all, not each.

Version 2 of the interface, or version 1's controllers one by one. Without either, limits of single processes remain.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnwise.sandbox.policy import MIB, TMP_MB, SandboxPolicy

ROOT = Path("/sys/fs/cgroup")
PREFIX = "turnwise-"
"""Before the id of the owner's process, which tells what a killed one left."""

IF_THERE = ("memory.swap.max", "cpu.max", "cpu.cfs_quota_us")
"""Files that a machine without swap, or without shares of CPU time, does not have."""

PERIOD_US = 100_000
"""Microseconds in which a group may use so much CPU time; the kernel's own default."""

SERVER_MB = 32
"""MiB for the process that serves."""


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


def make(policy: SandboxPolicy, *, kernel: Kernel | None = None) -> Cgroup | None:
    """Return a new group with the policy's limits; None where none can be made with both, or joined.

    `kernel` is what a kernel of the sandbox's own may have beside.
    """
    return _made(policy, kernel) if is_usable() else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """What a kernel that runs as a process takes for itself."""

    memory_mb: int
    processes: int


def memory_bytes(policy: SandboxPolicy) -> int:
    """Return the memory of a whole sandbox: its files lie in memory too, and must not end who serves."""
    return (policy.memory_mb + policy.disk_mb + 2 * TMP_MB + SERVER_MB) * MIB


@functools.cache
def is_usable() -> bool:
    """Return whether a group can be made here and a process be put into it; what killed owners left goes first."""
    sweep()
    group = _made(SandboxPolicy())
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


def sweep() -> int:
    """Remove the groups of owners that are gone, and return how many those were."""
    num_removed = 0
    for folder in (*ROOT.glob(f"{PREFIX}*"), *ROOT.glob(f"*/{PREFIX}*")):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
                num_removed += 1
    return num_removed


def _made(policy: SandboxPolicy, kernel: Kernel | None = None) -> Cgroup | None:
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    limits = _limits(policy, kernel or Kernel(memory_mb=0, processes=0))
    made: list[Path] = []
    for parent, values in limits:
        folder = parent / name
        try:
            folder.mkdir()
            made.append(folder)
            for file, value in values.items():
                if file not in IF_THERE or (folder / file).exists():
                    (folder / file).write_text(str(value))
        except OSError:
            Cgroup(tuple(made)).remove()
            return None
    return Cgroup(tuple(made)) if made else None


def _limits(policy: SandboxPolicy, kernel: Kernel) -> Sequence[tuple[Path, Mapping[str, int | str]]]:
    memory = memory_bytes(policy) + kernel.memory_mb * MIB
    pids = policy.processes + 2 + kernel.processes  # bwrap and who serves
    quota_us = int(policy.cpus * PERIOD_US)
    if (ROOT / "cgroup.controllers").is_file():
        cpu = {"cpu.max": f"{quota_us} {PERIOD_US}"}
        return [(ROOT, {"memory.max": memory, "memory.swap.max": 0, "pids.max": pids, **cpu})]
    groups: list[tuple[Path, Mapping[str, int | str]]] = [
        (ROOT / "memory", {"memory.limit_in_bytes": memory}),
        (ROOT / "pids", {"pids.max": pids}),
    ]
    return groups + [(ROOT / "cpu", {"cpu.cfs_quota_us": quota_us})] * (ROOT / "cpu").is_dir()
