"""`turnwise/MiniWoB-v0`: the 130 pages of MiniWoB++ (the package `miniwob`, MIT) in a real browser.

A seed chooses a page and the problem on it. The pages' time is their own and stands still while the policy thinks: a
turn is a second of it, in which animations end; so episodes are the same under the same seed and actions, and how fast
anybody is changes nothing. Rewards: `outcome`, the page's own from -1 to 1, without its discount for time, when it says
that it is done; -1 when turns run out first, or the page is left. `format`, -1 for what cannot be carried out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.arguments import probability, some_of, whole
from turnwise_envs.web.deeds import goto
from turnwise_envs.web.files import served
from turnwise_envs.web.page import PageEnv, Viewing
from turnwise_envs.web.session import Session, Settings, View
from turnwise_envs.web.solvers import SOLVERS, Scene

CLOCK_MS = 1000
"""A turn, in the time of a page."""

HIDDEN = "#query, #reward-display, #click-canvas, #sync-task-cover"
"""The task, which stands above the page, and what shows rewards and times."""

SCRIPT = """
let state = %d >>> 0;
Math.random = () => {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
};
globalThis.MessageChannel = class {
  port1 = {};
  port2 = { postMessage: () => Promise.resolve().then(() => this.port1.onmessage()) };
};
addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style");
  style.textContent = "* { transition: none !important; animation: none !important; }" +
    "#reward-display, #click-canvas, #sync-task-cover { display: none !important; } #query { pointer-events: none; }";
  document.head.append(style);
});
"""
"""What a page draws before its problem follows from the seed too, nothing moves by itself, and a long task, which runs
over into the page, covers nothing. Playwright's clock sends itself a message after each timer, and while it waits for
it the browser may draw, and notice that something has moved below the mouse; here it waits for nothing, so that this is
noticed after the turn's time and not some time in it."""

START = """([seed, mode]) => {
  Math.seedrandom(seed);
  core.setDataMode(mode);
  core.EPISODE_MAX_TIME = 2 ** 31 - 1;
  core.startEpisodeReal();
  core.hasBegun = true;
}"""

PROBE = """() => {
  let task = "";
  try { task = core.getUtterance(); } catch {}
  return core.hasBegun ? [WOB_DONE_GLOBAL, WOB_RAW_REWARD_GLOBAL, task.utterance ?? task] : null;
}"""


class MiniWoBEnv(PageEnv):
    """Do what a small page asks for."""

    licence = "MIT"
    needs = "Chromium, bubblewrap, playwright, miniwob"

    instructions = (
        "Do the task on the page. Each line of the page is an element: its number, what it is, its name, its state. "
        "Name elements by their numbers: click 3; fill 4 | Bob; select_option 5 | Red ; Blue; press 4 | Enter."
    )

    def __init__(
        self,
        *,
        tasks: Sequence[str] | None = None,
        eval_tasks: Sequence[str] | None = None,
        max_turns: int = 20,
        mistakes: float = 0.0,
        observation: str = "tree",
        max_chars: int = 4000,
        coordinates: bool = False,
        screenshots: str | None = None,
        recycle: int = 200,
        unsafe_process: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Set up the pages; UserError for a value that does not fit, and where browser or pages are not installed.

        `tasks`: names of pages, for instance "click-button" (default: all). `eval_tasks`: those of held-out tasks
        (default: the same, under other seeds). `mistakes`: probability that a demonstrated action is a wrong one.
        """
        viewing = Viewing(
            observation=observation,
            max_chars=max_chars,
            coordinates=coordinates,
            screenshots=screenshots,
            recycle=recycle,
            unsafe_process=unsafe_process,
        )
        self._folder = pages_folder()
        pages = page_names()
        self._tasks = some_of("tasks", tasks, pages)
        self._eval_tasks = self._tasks if eval_tasks is None else some_of("eval_tasks", eval_tasks, pages)
        super().__init__(viewing, render_mode)
        self.max_turns = whole("max_turns", max_turns, 1, 1000)
        self._mistakes = probability("mistakes", mistakes)
        self._name = self._task = ""
        self._is_judged = False

    def begin(self, options: Mapping[str, Any]) -> Message:
        """Open the page that the seed chooses, with its problem."""
        is_eval = options.get("split") == "eval"
        names = self._eval_tasks if is_eval else self._tasks
        self._name, self._is_judged = names[int(self.np_random.integers(len(names)))], False
        port, seed = served(self._folder.parent), int(self.np_random.integers(2**31))
        settings = Settings(
            network=(f"127.0.0.1:{port}",),
            clock_ms=CLOCK_MS,
            script=SCRIPT % seed,
            hide=HIDDEN,
            probe=PROBE,
            load_s=30.0,
        )
        url = f"http://127.0.0.1:{port}/miniwob/{self._name}.html"
        view = self.open(
            settings, options, partial(_start, url=url, seed=str(seed), mode="test" if is_eval else "train")
        )
        self._task = " ".join(str(view.probe[2]).split())
        return self.begun(f"task: {self._task}")

    def judge(self, view: View) -> bool:
        """Give the page's reward once it is done."""
        is_done, raw, _ = view.probe or (True, -1.0, "")
        if is_done:
            self._is_judged = True
            self.reward("outcome", min(1.0, max(-1.0, float(raw))))
            self.finish()
            return True
        self._run_out()
        return False

    def on_invalid(self, error: InvalidAction) -> None:
        """It costs a turn besides, perhaps the last."""
        super().on_invalid(error)
        self._run_out()

    def gold(self) -> dict[str, Any]:
        """Return the page's name, and the task as the question."""
        return {"page": self._name, "question": self._task}

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return what the page's solver does next, or with the probability of mistakes a click anywhere."""
        solver = SOLVERS.get(self._name)
        if solver is None:
            return None
        if rng.random() < self._mistakes:
            return f"click {rng.choice([row.bid for row in self.view.rows] or ['1'])}"
        return solver(Scene(task=self._task, rows=self.view.rows))

    def _run_out(self) -> None:
        """Out of turns is out of time, which the pages punish."""
        if not self._is_judged and self.num_turns >= (self.max_turns or 0):
            self._is_judged = True
            self.reward("outcome", -1.0)


async def _start(session: Session, url: str, seed: str, mode: str) -> None:
    await goto(session, url)
    await session.page.wait_for_load_state("load", timeout=session.settings.load_s * 1000)
    await session.page.evaluate(START, [seed, mode])


@cache
def pages_folder() -> Path:
    """Return the folder of the pages; UserError without the package, of which nothing is imported."""
    spec = importlib.util.find_spec("miniwob")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        problem, remedy = (
            "the package miniwob, which has the pages, is not installed",
            'pip install --no-deps "miniwob==1.1.0"',
        )
        raise UserError("env.id", "turnwise/MiniWoB-v0", problem, remedy)
    return Path(places[0]) / "html" / "miniwob"


def page_names() -> list[str]:
    """Return the names of all pages."""
    return sorted(path.stem for path in pages_folder().glob("*.html"))
