"""Five hundred episodes on each tier: a start, five commands, a restore, the end; and what is there before and after.

    python benchmarks/sandbox_soak.py [--episodes 500] [--at-once 4] [--tier docker] [--json FILE]

Counted are containers of ours, processes that come from this one, control groups, mounts of the daemon's, temporary
files and descriptors; exit code 1 where one is more than before. Without a Docker daemon that answers, one of its own
is started where that is possible. Every tenth episode is given up in the middle of a command.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import machine
import private_docker
from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.daemon import daemon, unreachable
from turnwise.sandbox.labels import OWNER
from turnwise.sandbox.podman import called
from turnwise.sandbox.podman import found as podman
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.reaper import containers
from turnwise.sandbox.tiers import missing, open_tier

TIERS = [tier for tier in Tier if tier is not Tier.PROCESS]
COMMANDS = ("echo $RANDOM > f", "cat f", "sleep 100 & echo left", "python3 -c 'print(7 * 7)'", "seq 1000 | wc -l")
POLICY = SandboxPolicy(memory_mb=128, disk_mb=16, wall_s=60.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Play the episodes of every tier that is here, print and write what was counted."""
    given = _parser().parse_args(argv)
    found: dict[str, Any] = {"machine": machine.described(), "episodes": given.episodes, "at once": given.at_once}
    with tempfile.TemporaryDirectory() as folder, private_docker.docker_here():
        tempfile.tempdir = folder
        for tier in given.tier or TIERS:
            why = missing(tier)
            found[tier.value] = {"missing": why} if why else soaked(tier, given, Path(folder))
            print(tier.value, json.dumps(found[tier.value]), flush=True)
            if given.json:
                given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(int(any(result.get("more", False) for result in found.values() if isinstance(result, dict))))


def soaked(tier: Tier, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Play the episodes of one tier."""
    asyncio.run(episodes(tier, 2 * given.at_once, given.at_once))  # what is opened once stays
    before, began = counts(folder), time.monotonic()
    lost = asyncio.run(episodes(tier, given.episodes, given.at_once))
    seconds = time.monotonic() - began
    after = settled(before, folder)
    more = any(after[name] > before[name] for name in before)
    return {"seconds": round(seconds, 1), "lost": lost, "before": before, "after": after, "more": more}


async def episodes(tier: Tier, count: int, at_once: int) -> int:
    """Play so many and return how many sandboxes were lost."""
    left = iter(range(count))
    return sum(await asyncio.gather(*(_play(tier, left) for _ in range(at_once))))


async def _play(tier: Tier, left: Iterator[int]) -> int:
    lost = 0
    for number in left:
        try:
            box = await open_tier(tier, POLICY)
        except SandboxLost:
            lost += 1
            continue
        try:
            empty = await box.snapshot()
            for command in COMMANDS:
                ran = await box.exec(command)
                assert ran.code == 0, ran
            await box.restore(empty)
            assert not (await box.exec("ls")).stdout
            if number % 10 == 9:
                task = asyncio.create_task(box.exec("sleep 100"))
                await asyncio.sleep(0.02)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        except SandboxLost:
            lost += 1
        finally:
            await box.close()
    return lost


def settled(before: dict[str, int], folder: Path, within_s: float = 10.0) -> dict[str, int]:
    """Return the counts once they are what they were, or after ten seconds."""
    until = time.monotonic() + within_s
    while (after := counts(folder)) != before and time.monotonic() < until:
        time.sleep(0.2)
    return after


def counts(folder: Path) -> dict[str, int]:
    """Count what could be left."""
    mine = f"turnwise-{os.getpid()}-*"
    has_docker = unreachable() is None
    root = str(Path(daemon().api.info()["DockerRootDir"]).parent) if has_docker else "/nowhere"
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return {
        "containers": (len(containers(daemon())) if has_docker else 0) + num_podman_containers(),
        "processes": len(below(os.getpid())),
        "control groups": sum(1 for each in (mine, f"*/{mine}") for _ in Path("/sys/fs/cgroup").glob(each)),
        "mounts": sum(f" {root}/" in line for line in mounts),
        "temporary files": len(list(folder.iterdir())),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def num_podman_containers() -> int:
    """Count Podman's containers of ours, running or not."""
    if missing(Tier.PODMAN):
        return 0
    return len(called(podman(), ["ps", "--all", "--quiet", "--filter", f"label={OWNER}"]).split())


def below(process: int) -> set[int]:
    """Return the processes that come from one: with a daemon of our own, those of its containers too."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    found: set[int] = set()
    rest = {process}
    while rest:
        rest = {child for child, parent in parents.items() if parent in rest}
        found |= rest
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=500, help="episodes of each tier (default 500)")
    parser.add_argument("--at-once", type=int, default=4, help="sandboxes at once (default 4)")
    parser.add_argument("--tier", type=Tier, action="append", choices=TIERS, help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, help="write the counts here too")
    return parser


if __name__ == "__main__":
    main()
