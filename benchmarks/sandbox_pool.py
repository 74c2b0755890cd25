"""What a pool of sandboxes costs and saves: a lease from a warm pool, a command through its actor, episodes a second.

    python benchmarks/sandbox_pool.py [--repetitions 50] [--json docs/results/sandbox_pool.json]

The pool is a Ray actor of its own; "here" is the same sandbox opened by the process that uses it. An episode is a
sandbox from either, five commands and the end, in threads as environments are. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import machine
from turnwise.cluster import connect
from turnwise.config.schema import RayConfig, SandboxConfig
from turnwise.remote import Watch, started
from turnwise.sandbox import Sandbox, source
from turnwise.sandbox.actor import RemotePool
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.pooled import Leasing
from turnwise.sandbox.tiers import open_sandbox
from turnwise.sandboxes import Sandboxes

CONFIG = SandboxConfig(pool=1, warm=8, max_open=32, starts_per_s=1000.0)
AT_ONCE = (1, 4, 16)
NUM_COMMANDS = 5
PAUSE_S = 0.5
"""Seconds before and after a lease, in which the pool opens another sandbox."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = _parser().parse_args(argv)
    with connect(RayConfig(dashboard=False, num_cpus=2)):
        found = {"machine": machine.described(), **asyncio.run(measured(given.repetitions))}
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    shown = Table("what", "here", "pool")
    for name, (here, pooled) in found["figures"].items():
        shown.add_row(name, f"{here:.2f}", f"{pooled:.2f}")
    Console().print(shown)


async def measured(repetitions: int) -> dict[str, Any]:
    """Return both figures of everything."""
    sandboxes = Sandboxes(CONFIG, Watch(60.0))
    for name, actor in sandboxes.actors.items():
        await started(name, actor, 60.0)
    leasing = Leasing([RemotePool(name) for name in sandboxes.actors], "benchmark")
    bare = await bare_call(sandboxes.actors["sandbox:0"], repetitions)
    times = [await timed(source_of, repetitions) for source_of in (open_sandbox, leasing.open)]
    figures = {"bare call of an actor, ms": (0.0, bare)}
    figures |= {name: (times[0][name], times[1][name]) for name in times[0]}
    for count in AT_ONCE:
        rates = [await rate(source_of, count, repetitions) for source_of in (open_sandbox, leasing.open)]
        figures[f"episodes a second, {count} at once"] = (rates[0], rates[1])
    await sandboxes.look()
    metrics = sandboxes.metrics()
    await sandboxes.close()
    return {"repetitions": repetitions, "pool": dataclasses.asdict(CONFIG), "figures": figures, "metrics": metrics}


async def bare_call(actor: Any, repetitions: int) -> float:
    """Return the median of a call that does nothing, in ms."""
    times = []
    for _ in range(repetitions):
        await asyncio.sleep(PAUSE_S / 10)
        began = time.perf_counter()
        await actor.ping.remote()
        times.append(1000.0 * (time.perf_counter() - began))
    return statistics.median(times)


async def timed(open_one: Callable[..., Awaitable[Sandbox]], repetitions: int) -> dict[str, float]:
    """Return medians of single steps, in ms."""
    times: dict[str, list[float]] = {}

    async def take(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        result = await work()
        times.setdefault(f"{name}, ms", []).append(1000.0 * (time.perf_counter() - began))
        return result

    await (await open_one(SandboxPolicy())).close()
    for _ in range(repetitions):
        await asyncio.sleep(PAUSE_S)
        box: Sandbox = await take("sandbox", lambda: open_one(SandboxPolicy()))
        await asyncio.sleep(PAUSE_S)
        await take("command", lambda: box.exec(["true"]))  # noqa: B023 - awaited at once
        await take("write 64 KiB", lambda: box.write("f", bytes(65536)))  # noqa: B023
        await take("read 64 KiB", lambda: box.read("f"))  # noqa: B023
        await take("end", box.close)
    return {name: statistics.median(values) for name, values in times.items()}


async def rate(open_one: Callable[..., Any], at_once: int, episodes: int) -> float:
    """Return episodes a second with so many at once, each in a thread."""
    source.use(open_one)
    count = max(episodes, 2 * at_once)
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(threads, episode) for _ in range(count)))
    source.use(open_sandbox)
    return count / (time.perf_counter() - began)


def episode() -> None:
    """Play one, as an environment does."""
    with BlockingSandbox(SandboxPolicy()) as box:
        for _ in range(NUM_COMMANDS):
            box.exec("true")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=50, help="leases and episodes of each (default 50)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser


if __name__ == "__main__":
    main()
