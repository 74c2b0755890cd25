"""Removes containers that a killed owner left: only ours, by their labels, and only if the owner has surely ended.

Rarely needed, since a container ends with its owner's connection; what is left are those that a daemon made just before
its client died, and those that a killed daemon finds again. Called once by each process that opens containers, and by
`turnwise sandbox reap`.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnwise.sandbox.attached import removed
from turnwise.sandbox.daemon import Daemon, lost
from turnwise.sandbox.labels import OWNER, RUN, TIER, is_gone, is_of_another_boot


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A container with our labels."""

    container: str  # its id
    name: str
    tier: str
    run: str  # which run it belongs to; empty outside of one
    owner: str
    status: str  # in the daemon's words: created, running, exited, ...
    is_orphan: bool


def containers(daemon: Daemon) -> list[Found]:
    """Return all containers with our labels; SandboxLost if the daemon does not answer."""
    with lost("the daemon does not say which containers there are"):
        found = daemon.api.containers(all=True, filters={"label": OWNER})
    return [_read(each) for each in found]


def reap(daemon: Daemon) -> list[Found]:
    """Remove the orphans and return them."""
    orphans = [each for each in containers(daemon) if each.is_orphan]
    for each in orphans:
        removed(daemon, each.container)
    return orphans


def _read(each: dict[str, object]) -> Found:
    labels = each.get("Labels")
    labels = labels if isinstance(labels, dict) else {}
    names = each.get("Names")
    owner, status = str(labels.get(OWNER, "")), str(each.get("State", ""))
    return Found(
        container=str(each["Id"]),
        name=str(names[0]).lstrip("/") if isinstance(names, list) and names else "",
        tier=str(labels.get(TIER, "")),
        run=str(labels.get(RUN, "")),
        owner=owner,
        status=status,
        is_orphan=is_gone(owner) or (is_of_another_boot(owner) and status != "running"),
    )
