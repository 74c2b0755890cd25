"""What environments cost: steps a second of a core, a browser's turn beside bare Playwright, eight contexts at once.

    python benchmarks/environments.py [--steps 5000] [--turns 200] [--episodes 1000] [--json FILE]

Worlds in the process: demonstrations are recorded, and played again against the processor's time of this thread; resets
are counted apart. The shop with a browser and without: the same actions, against the clock. Bare Playwright: its own
Chromium that nothing confines, on the same page, in turn with ours: `locator.click` and `aria_snapshot`, and besides
the click alone. At once: threads with a context each, of MiniWoB++'s pages and of the shop by turns; a failure is an
episode that raises.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import machine
from turnwise.env import TurnEnv
from turnwise.tasks import make_env, world_of
from turnwise_envs.shop.env import ShopEnv
from turnwise_envs.web.browser import playwright
from turnwise_envs.web.launch import FLAGS, chromium
from turnwise_envs.web.plain_page import served
from turnwise_envs.web.solvers import SOLVERS

WORLDS: Mapping[str, Mapping[str, Any]] = {
    "turnwise/Tool-v0": {},
    "turnwise/Search-v0": {},
    "turnwise/Sokoban-v0": {},
    "turnwise/Household-v0": {},
    "turnwise/Shop-v0": {},
}
SHOP = "turnwise/Shop-v0"
AT_ONCE = 8
ACTIONS = {"check an option": ("radio", ""), "follow a link": ("link", "Basket")}
"""What is done in the browser again and again: on elements of this role and name."""

ASKED = {
    **{f"{name.partition('/')[2]}, steps/s a core": ">= 5000" for name in list(WORLDS)[:-1]},
    "shop without a browser, times as fast": ">= 10",
    **{f"{name}, times bare Playwright": "<= 1.3" for name in ACTIONS},
    f"{AT_ONCE} contexts at once, failures": "0",
}
"""What the figures should be."""

Rows = dict[str, float]
Played = tuple[int, list[str]]
"""A seed and the actions of its episode."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    given = _parser().parse_args(argv)
    found: dict[str, Any] = {"machine": machine.described(), "load": machine.load(), **_counts(given), "rows": {}}
    for part in (
        lambda: worlds(WORLDS, given.steps),
        lambda: fast_path(given.turns),
        lambda: beside_playwright(given.turns),
        lambda: at_once(given.episodes),
    ):
        found["rows"] |= part()
        found["load after"] = machine.load()
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    Console().print(table(found["rows"]))


def worlds(ids: Mapping[str, Mapping[str, Any]], num_steps: int) -> Rows:
    """Return steps and resets a second of a core of worlds that live in the process."""
    rows: Rows = {}
    for name, kwargs in ids.items():
        env = make_env(name, dict(kwargs))
        steps, resets = replayed(env, recorded(env, num_steps), time.thread_time)
        short = name.partition("/")[2]
        rows |= {f"{short}, steps/s a core": 1 / steps, f"{short}, resets/s a core": 1 / resets}
        env.close()
    return rows


def fast_path(num_turns: int) -> Rows:
    """Return the shop's turns a second without a browser and with one."""
    plain, real = (make_env(SHOP, {"via": via}) for via in ("http", "browser"))
    played = recorded(plain, num_turns)
    real.reset(seed=0)  # starts the browser
    without, with_one = (1 / replayed(env, played, time.perf_counter)[0] for env in (plain, real))
    real.close()
    return {
        "shop without a browser, turns/s": without,
        "shop in the browser, turns/s": with_one,
        "shop without a browser, times as fast": without / with_one,
    }


def recorded(env: Any, num_steps: int) -> list[Played]:
    """Return demonstrated episodes of so many steps in all, or a few more."""
    world, rng, played = world_of(env), np.random.default_rng(0), list[Played]()
    while sum(len(actions) for _, actions in played) < num_steps:
        played.append((len(played), []))
        env.reset(seed=played[-1][0])
        is_over = False
        while not is_over:
            played[-1][1].append(world.demonstrate(rng))
            *_, terminated, truncated, _ = env.step(played[-1][1][-1])
            is_over = terminated or truncated
    return played


def replayed(env: Any, played: Sequence[Played], clock: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds that a step takes, and a reset."""
    resets = steps = 0.0
    for seed, actions in played:
        began = clock()
        env.reset(seed=seed)
        ready = clock()
        for action in actions:
            env.step(action)
        resets, steps = resets + ready - began, steps + clock() - ready
    return steps / sum(len(actions) for _, actions in played), resets / len(played)


def beside_playwright(num_turns: int) -> Rows:
    """Return milliseconds of a turn in the browser and of bare Playwright's on the same page, and how they compare."""
    env = ShopEnv(via="browser", max_turns=1000)
    number = next(iter(env._shop.stock.products))
    rows: Rows = {}
    with asyncio.Runner() as runner, _bare_page(runner, served(env._shop.app), number) as (page, visit):
        for name, (role, label) in ACTIONS.items():
            runner.run(visit())
            _open(env, number)
            mine, bare, blind = list[float](), list[float](), list[float]()
            for turn in range(num_turns):
                found = [row for row in env.view.rows if row.role == role and label in row.name]
                mine.append(_timed(lambda: env.step(f"click {found[turn % len(found)].bid}")))  # noqa: B023 - at once
                for times, reads in ((bare, True), (blind, False)):
                    times.append(_timed(lambda: runner.run(_bare_turn(page, role, label, turn % len(found), reads))))  # noqa: B023
            rows[f"{name}, ms a turn"] = ours = statistics.median(mine)
            rows[f"{name}, ms with bare Playwright"] = theirs = statistics.median(bare)
            rows[f"{name}, ms with bare Playwright, click alone"] = statistics.median(blind)
            rows[f"{name}, times bare Playwright"] = ours / theirs
    env.close()
    return rows


def _open(env: ShopEnv, number: int) -> None:
    """Begin an episode at a product's page."""
    env.reset(seed=0)
    env.perform(lambda session: env._deeds.enter(session, f"{env.view.url}product/{number}"))


@contextmanager
def _bare_page(runner: asyncio.Runner, port: int, number: int) -> Iterator[tuple[Any, Callable[[], Awaitable[None]]]]:
    """Yield a page of a Chromium of its own, and what loads the product's page in it."""
    driver = runner.run(playwright()().start())
    started = driver.chromium.launch(executable_path=str(chromium()), args=list(FLAGS), chromium_sandbox=False)
    browser = runner.run(started)
    page = runner.run(browser.new_page(viewport={"width": 800, "height": 4000}))

    async def visit() -> None:
        for path in ("enter/bare", f"product/{number}"):
            await page.goto(f"http://127.0.0.1:{port}/{path}")

    try:
        yield page, visit
    finally:
        runner.run(browser.close())
        runner.run(driver.stop())


async def _bare_turn(page: Any, role: str, label: str, place: int, reads: bool) -> None:
    await page.get_by_role(role, name=label).nth(place).click()
    await page.wait_for_load_state("domcontentloaded")
    if reads:
        await page.locator("body").aria_snapshot()


def at_once(num_episodes: int) -> Rows:
    """Return how many episodes fail when contexts are used at once, and how many there are a second."""
    left, failures, steps = itertools.count(), list[str](), list[int]()

    def play(number: int) -> None:
        kwargs: dict[str, Any] = {"via": "browser"} if number % 2 else {"tasks": list(SOLVERS)}
        env = make_env(SHOP if number % 2 else "turnwise/MiniWoB-v0", kwargs)
        while (seed := next(left)) < num_episodes:
            try:
                steps.append(_episode(env, seed))
            except Exception as error:  # noqa: BLE001 - counted, and told
                failures.append(f"{seed}: {type(error).__name__}: {error}")
        env.close()

    threads = [threading.Thread(target=play, args=(number,)) for number in range(AT_ONCE)]
    took = _timed(lambda: [[thread.start() for thread in threads], [thread.join() for thread in threads]]) / 1000
    for line in failures[:20]:
        Console(stderr=True).print(line)
    name = f"{AT_ONCE} contexts at once"
    return {
        f"{name}, episodes": float(num_episodes),
        f"{name}, failures": float(num_episodes - len(steps)),
        f"{name}, episodes/s": num_episodes / took,
        f"{name}, turns/s": sum(steps) / took,
    }


def _episode(env: Any, seed: int) -> int:
    """Play what is demonstrated; return its turns."""
    world: TurnEnv = world_of(env)
    rng, is_over = np.random.default_rng(seed), False
    env.reset(seed=seed)
    while not is_over:
        *_, terminated, truncated, _ = env.step(world.demonstrate(rng))
        is_over = terminated or truncated
    return world.num_turns


def _timed(work: Callable[[], Any]) -> float:
    """Return the milliseconds that it takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def table(rows: Rows) -> Table:
    """Return the figures, beside what they should be."""
    shown = Table("what", "figure", "asked", title="environments")
    for name, value in rows.items():
        shown.add_row(name, f"{value:.2f}" if value < 100 else f"{value:.0f}", ASKED.get(name, ""))
    return shown


def _counts(given: argparse.Namespace) -> dict[str, int]:
    return {"steps": given.steps, "turns": given.turns, "episodes": given.episodes}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000, help="steps of each world in the process (default 5000)")
    parser.add_argument("--turns", type=int, default=200, help="turns of each comparison with a browser (default 200)")
    parser.add_argument("--episodes", type=int, default=1000, help="episodes at once (default 1000)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser


if __name__ == "__main__":
    main()
