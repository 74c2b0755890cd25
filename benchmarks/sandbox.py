"""What a sandbox costs: start, a command, a file, the end, episodes a second at 1 to 64 at once, beside the bare tool.

    python benchmarks/sandbox.py [--repetitions 30] [--json docs/results/sandbox.json]

An episode is a start, five commands and the end. The bare tool: `bwrap` with the same namespaces and nothing else, from
its start to the end of `true`; `docker run` with the flags of a hardened container, and `docker exec` of `true` in a
container that runs. Medians. Without a Docker daemon that answers, one of its own is started where that is possible.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import machine
import private_docker
from turnwise.sandbox import Sandbox, Tier
from turnwise.sandbox.daemon import daemon
from turnwise.sandbox.images import find_base
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_tier

HARDENED = (
    *("docker", "run", "--rm", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "64", "--memory", "512m", "--memory-swap", "512m", "--cpus", "1", "--read-only"),
    *("--tmpfs", "/tmp:rw,noexec,nosuid,size=64m,mode=1777", "--user", "65534:65534"),
)
BARE = {
    Tier.BUBBLEWRAP: ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
    Tier.DOCKER: [*HARDENED, "--init", "IMAGE", "true"],
    Tier.GVISOR: [*HARDENED, "--runtime", "runsc", "IMAGE", "true"],
}
AT_ONCE = (1, 4, 16, 64)
NUM_COMMANDS = 5
NAME = f"turnwise-bare-{os.getpid()}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every tier that confines and is here, and print."""
    given = _parser().parse_args(argv)
    with private_docker.docker_here():
        _measure(given)


def _measure(given: argparse.Namespace) -> None:
    tiers = {tier: missing(tier) for tier in BARE}
    found: dict[str, Any] = {"machine": machine.described(), "load": machine.load(), "repetitions": given.repetitions}
    for tier, why in tiers.items():
        found[tier.value] = {"missing": why} if why else asyncio.run(measured(tier, given.repetitions))
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        Console().print(table(tier.value, found[tier.value]))


async def measured(tier: Tier, repetitions: int) -> dict[str, float]:
    """Return what one tier takes."""
    policy = SandboxPolicy()
    times: dict[str, list[float]] = {}

    async def timed(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        result = await work()
        times.setdefault(f"{name}, ms", []).append(1000.0 * (time.perf_counter() - began))
        return result

    for _ in range(repetitions):
        await timed("bare tool", lambda: bare(BARE[tier]))
        box: Sandbox = await timed("start", lambda: open_tier(tier, policy))
        await timed("command", lambda: box.exec(["true"]))  # noqa: B023 - awaited at once
        await timed("shell command", lambda: box.exec("true"))  # noqa: B023
        await timed("write 64 KiB", lambda: box.write("f", bytes(65536)))  # noqa: B023
        await timed("read 64 KiB", lambda: box.read("f"))  # noqa: B023
        await timed("end", box.close)
    if tier is not Tier.BUBBLEWRAP:
        await _bare_exec(tier, timed, repetitions)
    rates = {f"episodes a second, {count} at once": await rate(tier, policy, count, repetitions) for count in AT_ONCE}
    return {**{name: statistics.median(values) for name, values in times.items()}, **rates}


async def _bare_exec(tier: Tier, timed: Callable[..., Awaitable[Any]], repetitions: int) -> None:
    """Time `docker exec` in one container that runs."""
    words = [*BARE[tier][:-2], "--detach", "--name", NAME, "IMAGE", "sleep", "600"]
    await bare(words)
    try:
        for _ in range(repetitions):
            await timed("bare docker exec", lambda: bare(["docker", "exec", NAME, "true"]))
    finally:
        await bare(["docker", "rm", "--force", NAME])


async def bare(words: Sequence[str]) -> None:
    """Run the bare tool to its end."""
    image = find_base(daemon()) if "IMAGE" in words else None
    given = [image or "" if word == "IMAGE" else word for word in words]
    process = await asyncio.create_subprocess_exec(*given, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0, "the bare tool failed"


async def rate(tier: Tier, policy: SandboxPolicy, at_once: int, episodes: int) -> float:
    """Return episodes a second with so many at once."""
    count = max(episodes, at_once)
    left = iter(range(count))
    began = time.perf_counter()
    await asyncio.gather(*(_episodes(tier, policy, left) for _ in range(at_once)))
    return count / (time.perf_counter() - began)


async def _episodes(tier: Tier, policy: SandboxPolicy, left: Any) -> None:
    for _ in left:
        box = await open_tier(tier, policy)
        for _ in range(NUM_COMMANDS):
            await box.exec("true")
        await box.close()


def table(tier: str, found: dict[str, Any]) -> Table:
    """Return one tier's figures."""
    shown = Table("what", "median", title=tier)
    for name, value in found.items():
        shown.add_row(name, value if isinstance(value, str) else f"{value:.1f}")
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=30, help="starts and ends of each (default 30)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser


if __name__ == "__main__":
    main()
