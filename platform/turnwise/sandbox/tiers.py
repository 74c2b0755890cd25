"""Which tiers this machine has, why not more, and the door to all of them: `open_sandbox`.

`turnwise doctor` prints what `missing` says.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from turnwise.errors import UserError
from turnwise.sandbox import Sandbox, SandboxLost, Tier
from turnwise.sandbox.bubblewrap import open_bubblewrap
from turnwise.sandbox.daemon import host
from turnwise.sandbox.docker import missing_docker, open_docker
from turnwise.sandbox.podman import USER_VARIABLE, missing_podman, open_podman
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.process import open_process
from turnwise.sandbox.seccomp import program
from turnwise.sandbox.served import Served

ORDER = tuple(Tier)


async def open_sandbox(policy: SandboxPolicy | None = None, field: str = "sandbox") -> Served:
    """Start a sandbox of the strongest tier that is here.

    UserError if that is weaker than the policy's `minimum`, which `field` names; SandboxLost if it does not start.
    """
    policy = policy or SandboxPolicy()
    policy.check(field)
    return await open_tier(strongest(policy, field), policy, field)


async def open_tier(tier: Tier, policy: SandboxPolicy, field: str = "sandbox") -> Served:
    """Start a sandbox of this tier, which `missing` says nothing against; what measures tiers asks for one by name."""
    if tier in (Tier.GVISOR, Tier.DOCKER):
        return await open_docker(policy, tier, f"{field}.image")
    if tier is Tier.PODMAN:
        return await open_podman(policy)
    if tier is Tier.BUBBLEWRAP:
        return await open_bubblewrap(policy)
    return await open_process(policy)


def strongest(policy: SandboxPolicy, field: str = "sandbox") -> Tier:
    """Return the strongest tier that is here and that the policy accepts; UserError, with the reasons, if none is."""
    accepted = ORDER[: ORDER.index(Tier(policy.minimum)) + 1]
    reasons = []
    for tier in accepted:
        why = missing(tier, policy.image)
        if why is None:
            return tier
        reasons.append(f"{tier.value}: {why}")
    if policy.image:
        problem = f"no sandbox here has images ({'; '.join(reasons)})"
        raise UserError(f"{field}.image", policy.image, problem, "start Docker, or leave the key out")
    remedy = "run turnwise doctor, and install what it names"
    raise UserError(f"{field}.minimum", policy.minimum, f"no such sandbox here ({'; '.join(reasons)})", remedy)


def missing(tier: Tier, image: str = "") -> str | None:
    """Return why a tier cannot be used on this machine, None if it can; `image` as in the policy.

    What was found holds for this process, so that a tier does not change within a run: a daemon that ends later makes
    sandboxes that are lost, and not weaker ones.
    """
    if tier in (Tier.GVISOR, Tier.DOCKER):
        return _docker(tier, bool(image), host())
    if tier is Tier.PODMAN:
        return _podman(image, os.environ.get(USER_VARIABLE, ""))
    if image:
        return "it has no images"
    return _bubblewrap() if tier is Tier.BUBBLEWRAP else None


@functools.cache
def _docker(tier: Tier, is_other: bool, where: str) -> str | None:
    if why := missing_docker(tier, is_other):
        return why
    why = None if is_other else _tried(lambda: open_docker(SandboxPolicy(), tier))
    return why and f"{why}; look at the daemon's log"


@functools.cache
def _podman(image: str, user: str) -> str | None:
    if why := missing_podman(image):
        return why
    why = _tried(lambda: open_podman(SandboxPolicy()))
    return why and f"{why}; try podman run --rm as this user"


@functools.cache
def _bubblewrap() -> str | None:
    if shutil.which("bwrap") is None:
        return "no bwrap on PATH; install bubblewrap"
    try:
        program()
    except (ImportError, OSError, RuntimeError) as error:
        return f"no filter of system calls ({_one_line(error)}); install libseccomp2 and the package pyseccomp"
    why = _tried(lambda: open_bubblewrap(SandboxPolicy()))
    return why and f"{why}; allow user namespaces, and take bwrap 0.8 or later"


def _tried(start: Callable[[], Awaitable[Sandbox]]) -> str | None:
    """Return what keeps one from starting here."""
    with ThreadPoolExecutor(1) as apart:  # the caller may be in an event loop
        return apart.submit(asyncio.run, _try(start)).result()


async def _try(start: Callable[[], Awaitable[Sandbox]]) -> str | None:
    try:
        await (await start()).close()
    except (OSError, SandboxLost) as error:
        return f"it does not work here ({_one_line(error)[:200]})"
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
