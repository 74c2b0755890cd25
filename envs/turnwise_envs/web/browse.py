"""`BrowseEnv`: the base of environments that go from page to page, in tabs, and answer in words.

A subclass says in its settings which hosts can be reached.
"""

from __future__ import annotations

from abc import abstractmethod

from turnwise.env import tool
from turnwise_envs.web import deeds
from turnwise_envs.web.page import PageEnv


class BrowseEnv(PageEnv):
    """Act on pages, and move between them."""

    sample_actions = (
        *PageEnv.sample_actions, "goto http://127.0.0.1/", "go_back", "go_forward", "new_tab", "tab_focus 0",
        "tab_focus 7", "tab_close", "send_msg_to_user hello",
    )  # fmt: skip

    @abstractmethod
    def hear(self, text: str) -> str:
        """Take what the policy says to whoever gave it the task, and return what it reads then."""

    def heading(self) -> list[str]:
        """Return a line for each tab; the active one has a star."""
        view = self.view
        return [f"tab {place}{'*' if place == view.active else ''}: {title}" for place, title in enumerate(view.titles)]

    @tool
    def goto(self, url: str) -> str:
        """Load a page; its address begins with http:// or https://."""
        return self.perform(lambda session: deeds.goto(session, url))

    @tool
    def go_back(self) -> str:
        """Go back to the page before."""
        return self.perform(lambda session: deeds.travel(session, is_forward=False))

    @tool
    def go_forward(self) -> str:
        """Go forward again."""
        return self.perform(lambda session: deeds.travel(session, is_forward=True))

    @tool
    def new_tab(self) -> str:
        """Open a tab, and use it."""
        return self.perform(deeds.new_tab)

    @tool
    def tab_focus(self, index: int) -> str:
        """Use another tab, by its number."""
        return self.perform(lambda session: deeds.focus_tab(session, index))

    @tool
    def tab_close(self) -> str:
        """Close the tab in use."""
        return self.perform(lambda session: session.page.close())

    @tool
    def send_msg_to_user(self, text: str) -> str:
        """Say something to whoever gave the task."""
        return self.hear(text)
