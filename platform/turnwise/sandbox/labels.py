"""The labels on our containers and images: whose they are, so that nobody else's are ever touched.

An owner is a process of one machine's one boot: its id alone may be another's later, or another's in another namespace.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

OWNER = "turnwise.owner"
LEASE = "turnwise.lease"
RUN = "turnwise.run"
TIER = "turnwise.tier"
BASE = "turnwise.base"
"""On an image: the signature of the machine that it was made from."""

RUN_VARIABLE = "TURNWISE_RUN"
"""The environment variable that names the run; empty outside of one."""


def new_labels(tier: str) -> dict[str, str]:
    """Return the labels of one new container of this process's."""
    run = os.environ.get(RUN_VARIABLE, "")
    return {OWNER: owner(), LEASE: secrets.token_hex(16), RUN: run, TIER: tier}


def owner() -> str:
    """Return this process: boot, namespace of processes, id, and the time at which it began."""
    return f"{_boot()} {_namespace()} {os.getpid()} {_began(os.getpid())}"


def is_gone(who: str) -> bool:
    """Return whether the owner that a label names has surely ended; False of what cannot be told from here."""
    parts = who.split(" ")
    if len(parts) != 4 or parts[0] != _boot() or parts[1] != _namespace() or not parts[2].isdigit():
        return False
    return _began(int(parts[2])) != parts[3]


def is_of_another_boot(who: str) -> bool:
    """Return whether the owner lived before this machine was started, or on another one."""
    return len(who.split(" ")) == 4 and who.split(" ")[0] != _boot()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _began(process: int) -> str:
    """Return when a process began, in ticks since the start of the machine; empty if there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    state, *others = text.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else others[18]
