"""`PageEnv`: the base of environments that act on a page in a browser; `browse.py` adds going from page to page.

Actions are BrowserGym's, as typed tools. An element is named by its number in the observation. An observation is what
the page shows (`tree.py`); one after an action that could not be carried out says so first, so that a policy that only
sees the latest observation still sees the page. A subclass says how an episode begins and what is rewarded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from turnwise.env import ToolEnv, tool
from turnwise.errors import EnvError, InvalidAction, UserError
from turnwise.records import Message
from turnwise.sandbox import Tier
from turnwise_envs.arguments import one_of, truth, whole
from turnwise_envs.web.browser import playwright
from turnwise_envs.web.browsers import Seat
from turnwise_envs.web.session import Deed, Session, Settings, View
from turnwise_envs.web.tree import changes, clipped

MAX_WAIT_MS = 10_000
MAX_TYPED = 10_000
"""Characters that one action may enter."""

FAR = 10_000
"""Pixels that nothing is beyond."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewing:
    """What is observed of a page, and what of browser is used: the options that all these environments have."""

    observation: str = "tree"
    max_chars: int = 4000
    coordinates: bool = False
    screenshots: str | None = None
    recycle: int = 200
    unsafe_process: bool = False

    def __post_init__(self) -> None:
        """UserError for a value that does not fit."""
        one_of("observation", self.observation, ("tree", "diff", "brief"))
        whole("max_chars", self.max_chars, 200, 1_000_000)
        whole("recycle", self.recycle, 1, 1_000_000)
        truth("coordinates", self.coordinates)
        truth("unsafe_process", self.unsafe_process)
        if self.screenshots is not None and not isinstance(self.screenshots, str):
            raise UserError(
                "env.kwargs.screenshots", self.screenshots, "no folder's name", "give a text, or leave it out"
            )


class Place(Protocol):
    """Where an environment has its pages: its seat at the browsers, or `plain.PlainSeat` without one."""

    deeds: Any  # a module with the functions of `deeds.py`, as many as the environment's tools need

    @property
    def tier(self) -> Tier | None:
        """How the pages are confined; None without a browser."""

    def open(self, settings: Settings) -> None:
        """Begin a session instead of the one before."""

    def run(self, work: Callable[[Any], Coroutine[Any, Any, View]], limit_s: float) -> View:
        """Return what the session did."""

    def release(self) -> None:
        """Give it back; it may be used again."""


class PageEnv(ToolEnv):
    """Act on a page: click, fill, press, scroll, drag."""

    sample_actions: Sequence[str] = (
        "click 1", "click 2", "click 3", "dblclick 2", "hover 1", "fill 1 | hello", "select_option 1 | hello",
        "press 1 | Enter", "scroll 0 | 100", "drag_and_drop 1 | 2", "mouse_click 80 | 100", "noop", "hello", "click 99",
    )  # fmt: skip

    def __init__(self, viewing: Viewing, render_mode: str | None = None, seat: Place | None = None) -> None:
        """Take a place at this process's browsers, if none is given; UserError if what they need is not installed."""
        super().__init__(render_mode)
        self._viewing = viewing
        self._seat = self._seat_in_browser() if seat is None else seat
        self._deeds = self._seat.deeds
        self._settings, self._head = Settings(), ""
        self.view = View(rows=[])
        self._lines: list[str] = []  # as the policy last saw them
        self._episode_name = ""

    @abstractmethod
    def judge(self, view: View) -> bool:
        """Give rewards for what the page shows after a turn, and end the episode where it is over; whether it is."""

    @property
    def sandbox_tier(self) -> str:
        """How the browser is confined; "none" without one."""
        return "none" if self._seat.tier is None else self._seat.tier.value

    def open(self, settings: Settings, options: Mapping[str, Any], deed: Deed) -> View:
        """Begin an episode in a context of its own, with a first action; EnvError if that cannot be done."""
        wants = self._viewing
        self._settings = replace(settings, boxes=wants.coordinates, takes_picture=wants.screenshots is not None)
        self._episode_name = f"{self.task_seed}-{options.get('episode_seed', 0)}"
        self._lines, self._head = [], ""
        self._seat.open(self._settings)
        self.view = self._turn(deed)
        if self.view.error:
            raise EnvError(f"the first page cannot be opened: {self.view.error}")
        return self.view

    def act(self, action: Message) -> Message:
        """Carry out a call; InvalidAction shows the page too."""
        try:
            content = super().act(action)
        except InvalidAction as error:
            raise InvalidAction(f"{error}\n{self.shown()}") from None
        return {"role": self._answer_role, "content": content, **self._picture()}

    def on_invalid(self, error: InvalidAction) -> None:
        """What cannot be carried out costs 1 on the channel `format`."""
        self.reward("format", -1.0)

    def state_key(self) -> str:
        """Return a digest of what the page shows and of its path; the port of a server of ours is another each time."""
        path = urlsplit(self.view.url).path
        shown = "\n".join([self._head, path, *(row.line for row in self.view.rows)])
        return blake2b(shown.encode(), digest_size=8).hexdigest()

    def close(self) -> None:
        """Close the episode's context, and the browser if nobody else uses it."""
        self._seat.release()

    def begun(self, head: str) -> Message:
        """Return the first observation; `head` stands above every one that shows the whole page."""
        self._head = head
        return {"role": "user", "content": self.shown(), **self._picture()}

    def shown(self) -> str:
        """Return the page as it is now, or what has changed since it was last shown."""
        notes = [f"({note})" for note in self.view.notes]
        is_brief = self._viewing.observation == "brief"
        lines = [*self.heading(), *clipped(self.view.rows, self._viewing.max_chars, is_brief=is_brief)]
        before, self._lines = self._lines, lines
        if self._viewing.observation == "diff" and before:
            return "\n".join([*notes, *changes(before, lines)])
        return (" ; " if is_brief else "\n").join([*([self._head] if self._head else []), *notes, *lines])

    def heading(self) -> list[str]:
        """Return what stands above the page's own lines."""
        return []

    def perform(self, deed: Deed) -> str:
        """Carry out an action in the browser, and judge what comes of it; InvalidAction if it could not be."""
        self.view = self._turn(deed)
        if self.judge(self.view):
            return "over"
        if self.view.error:
            raise InvalidAction(self.view.error)
        return self.shown()

    def _seat_in_browser(self) -> Seat:
        playwright()
        return Seat(self, unsafe_process=self._viewing.unsafe_process, recycle=self._viewing.recycle)

    def _turn(self, deed: Deed) -> View:
        wants = self._settings
        limit_s = 10 * (wants.load_s + wants.action_s) + MAX_WAIT_MS / 1000
        return self._seat.run(lambda session: session.turn(deed), limit_s)

    def _picture(self) -> dict[str, str]:
        """Return the message's entry for the screenshot, which is saved."""
        if self._viewing.screenshots is None or self.view.picture is None:
            return {}
        folder = Path(self._viewing.screenshots)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._episode_name}-{self.num_turns}.png"
        path.write_bytes(self.view.picture)
        return {"image": str(path)}

    @tool
    def click(self, bid: str, button: Literal["left", "middle", "right"] = "left") -> str:
        """Click an element."""
        return self.perform(lambda session: self._deeds.click(session, bid, button))

    @tool
    def dblclick(self, bid: str) -> str:
        """Click an element twice."""
        return self.perform(lambda session: self._deeds.click(session, bid, num_clicks=2))

    @tool
    def hover(self, bid: str) -> str:
        """Move the mouse over an element."""
        return self.perform(lambda session: self._deeds.hover(session, bid))

    @tool
    def fill(self, bid: str, text: str) -> str:
        """Enter a text into a field, instead of what is there."""
        return self.perform(lambda session: self._deeds.fill(session, bid, _typed(text)))

    @tool
    def select_option(self, bid: str, options: list[str]) -> str:
        """Choose options of a list, and no others."""
        return self.perform(lambda session: self._deeds.choose(session, bid, options))

    @tool
    def press(self, bid: str, key: str) -> str:
        """Press a key, such as Enter, ArrowDown or Control+a, in an element."""
        return self.perform(lambda session: self._deeds.press(session, bid, key))

    @tool
    def drag_and_drop(self, from_bid: str, to_bid: str) -> str:
        """Drag one element onto another."""
        return self.perform(lambda session: self._deeds.drag_elements(session, from_bid, to_bid))

    @tool
    def scroll(self, delta_x: float, delta_y: float) -> str:
        """Turn the mouse wheel, in pixels; down and right are positive."""
        return self.perform(lambda session: session.page.mouse.wheel(_near(delta_x), _near(delta_y)))

    @tool
    def mouse_click(self, x: float, y: float) -> str:
        """Click at a point of the window."""
        return self.perform(lambda session: session.page.mouse.click(_near(x), _near(y)))

    @tool
    def mouse_drag_and_drop(self, from_x: float, from_y: float, to_x: float, to_y: float) -> str:
        """Drag from one point of the window to another."""
        ends = (_near(from_x), _near(from_y)), (_near(to_x), _near(to_y))
        return self.perform(lambda session: self._deeds.drag(session, *ends))

    @tool
    def keyboard_type(self, text: str) -> str:
        """Type a text where the focus is."""
        return self.perform(lambda session: session.page.keyboard.insert_text(_typed(text)))

    @tool
    def noop(self, wait_ms: int = 0) -> str:
        """Do nothing, for some milliseconds."""
        if not 0 <= wait_ms <= MAX_WAIT_MS:
            raise InvalidAction(f"noop waits for 0 to {MAX_WAIT_MS} milliseconds")
        return self.perform(partial(_wait, wait_ms=wait_ms))


async def _wait(session: Session, wait_ms: int) -> None:
    session.wait_ms = wait_ms


def _typed(text: str) -> str:
    if len(text) > MAX_TYPED:
        raise InvalidAction(f"at most {MAX_TYPED} characters at once")
    return text


def _near(pixels: float) -> float:
    if abs(pixels) > FAR:
        raise InvalidAction(f"nothing is further than {FAR} pixels away")
    return pixels
