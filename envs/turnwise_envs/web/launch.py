"""Where Chromium is, how it is started, and how it is confined.

Its own sandbox is off: root may not use it, and namespaces within namespaces are not allowed everywhere. What holds
instead is `turnwise.sandbox.confined`, for the whole browser.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from turnwise.errors import UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.confined import Confined
from turnwise.sandbox.policy import SandboxPolicy

PLACES = (
    "/usr/lib/chromium/chromium-headless-shell", "/usr/lib/chromium/chromium", "chromium-headless-shell", "chromium",
    "chromium-browser", "google-chrome-stable",
)  # fmt: skip
"""Where Chromium is, the first one that exists; what Debian has in /usr/bin are scripts around the first two.

The shell has the same pages and no window around them: the whole Chromium makes a window for every context, which costs
more than what happens in it.
"""

VARIABLE = "TURNWISE_CHROMIUM"
"""Names another one."""

FLAGS = (
    "--disable-background-networking", "--disable-component-update", "--disable-gpu", "--disable-quic",
    "--disable-smooth-scrolling", "--disable-sync", "--no-first-run", "--dns-prefetch-disable",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip

LIMITS = SandboxPolicy(memory_mb=4096, processes=4096, cpus=float(os.cpu_count() or 1))
"""Of a whole browser, where there is a control group."""


def confined_chromium(tier: Tier) -> Confined:
    """Return what is to be started instead of Chromium; UserError if there is none."""
    program = chromium()
    return Confined(tier, [str(program)], LIMITS, ["/etc/fonts", str(program.parent)])


def chromium() -> Path:
    """Return Chromium's place; UserError if there is none."""
    named = os.environ.get(VARIABLE)
    found = next((path for place in ([named] if named else PLACES) if (path := shutil.which(place))), None)
    if found is None:
        problem, remedy = "no Chromium here", "apt-get install chromium-headless-shell, or name its program"
        raise UserError(VARIABLE, named or "", problem, remedy)
    return Path(found).resolve()


def tier_of(*, unsafe_process: bool) -> Tier:
    """Return how a browser is confined here; UserError where it could not be, and need not."""
    if unsafe_process:
        return Tier.PROCESS
    if shutil.which("bwrap") is None:
        problem = "bubblewrap, which confines the browser, is not installed"
        remedy = "apt-get install bubblewrap libseccomp2, or set it to true for pages that you trust"
        raise UserError("env.kwargs.unsafe_process", unsafe_process, problem, remedy)
    return Tier.BUBBLEWRAP
