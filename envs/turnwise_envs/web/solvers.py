"""Solvers of pages of MiniWoB++: from the task and what the page shows to an action, a function for a page or several.

Written by hand from the pages' own texts. They remember nothing: what to do next stands on the page, so that they go on
from wherever somebody else has led, and serve as demonstrations with mistakes in them. Where they do not know how to
go on they do nothing. They are no measure of what can be solved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnwise_envs.web.tree import Row

NOTHING = "noop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A task, and the page as it stands."""

    task: str
    rows: Sequence[Row]

    @property
    def quoted(self) -> list[str]:
        """What the task has in quotation marks."""
        return re.findall(r'"([^"]*)"', self.task)

    @property
    def place(self) -> int:
        """Its first 1st, 2nd, 3rd, counted from 0."""
        found = re.search(r"(\d+)(?:st|nd|rd|th)", self.task)
        return int(found[1]) - 1 if found else 0

    @property
    def listed(self) -> set[str]:
        """What stands behind its "Select"."""
        found = re.search(r"Select (.*?) (?:and click|from the)", self.task)
        return set() if found is None or found[1] == "nothing" else set(found[1].split(", "))

    def all(self, *roles: str) -> list[Row]:
        """Rows with one of these roles."""
        return [row for row in self.rows if row.role in roles]

    def click(self, name: str, *roles: str) -> str:
        """Click the first row of this name, and of one of these roles if any are given."""
        fits = (row for row in self.rows if row.name == name and row.role in (roles or (row.role,)))
        return next((f"click {row.bid}" for row in fits), NOTHING)

    def enter(self, *texts: str, then: str = "Submit") -> str:
        """Fill the fields, from the first one on; when all are right, click the button."""
        for field, text in zip(self.all("textbox"), texts, strict=False):
            if field.value != text:
                return f"fill {field.bid} | {text}"
        return self.click(then, "button")


Solver = Callable[[Scene], str]


def _click_quoted(scene: Scene) -> str:
    name = scene.quoted[0]
    return scene.click("Close" if name == "x" else name, "button", "clickable", "link")


def _click_button(scene: Scene) -> str:
    named = re.search(r"button (\w+)", scene.task)
    return scene.click(named[1], "button") if named else f"click {scene.all('button')[0].bid}"


def _click_both(scene: Scene) -> str:
    one, two = sorted(scene.all("button"), key=lambda row: row.name)
    return f"click {(two if 'focused' in one.states else one).bid}"


def _click_tab(scene: Scene) -> str:
    return scene.click(scene.task.removeprefix("Click on ").rstrip("."), "tab")


def _look_behind_tabs(scene: Scene) -> str:
    found, tabs = scene.click(scene.quoted[0], "clickable", "link"), scene.all("tab")
    shown = next((place for place, tab in enumerate(tabs) if "expanded" in tab.states), -1)
    return found if found != NOTHING else f"click {tabs[(shown + 1) % len(tabs)].bid}"


def _expand(scene: Scene) -> str:
    first = scene.all("tab")[0]
    return f"click {first.bid}" if "collapsed" in first.states else scene.click("Submit", "button")


def _open_folders(scene: Scene) -> str:
    found = scene.click(scene.quoted[0], "clickable")
    return found if found != NOTHING else scene.click("hitarea expandable-hitarea")


def _follow_menu(scene: Scene) -> str:
    path = scene.task.removeprefix("Select ").split(">")
    shown = next((name for name in reversed(path) if scene.click(name, "menuitem") != NOTHING), path[-1])
    found = scene.click(shown, "menuitem")
    return found if shown == path[-1] else found.replace("click", "hover")


def _tick(scene: Scene) -> str:
    for box in scene.all("checkbox", "radio"):
        is_wanted, is_ticked = box.name in scene.listed, "checked" in box.states
        if is_wanted != is_ticked and (is_wanted or box.role == "checkbox"):
            return f"click {box.bid}"
    return scene.click("Submit", "button")


def _choose(scene: Scene) -> str:
    if {row.name for row in scene.all("option") if "selected" in row.states} == scene.listed:
        return scene.click("Submit", "button")
    return f"select_option {scene.all('combobox', 'listbox')[0].bid} | {' ; '.join(sorted(scene.listed))}"


def _enter_quoted(scene: Scene) -> str:
    return scene.enter(*scene.quoted)


def _enter_case(scene: Scene) -> str:
    return scene.enter(scene.quoted[0].upper() if "upper" in scene.task else scene.quoted[0].lower())


def _enter_twice(scene: Scene) -> str:
    return scene.enter(scene.quoted[0], scene.quoted[0])


def _enter_date(scene: Scene) -> str:
    month, day, year = re.findall(r"\d+", scene.task)
    return scene.enter(f"{year}-{month}-{day}")


def _enter_time(scene: Scene) -> str:
    hour, minute, half = re.findall(r"(\d+):(\d+)\s*(AM|PM)", scene.task)[0]
    return scene.enter(f"{int(hour) % 12 + 12 * (half == 'PM'):02d}:{minute}")


def _enter_word(scene: Scene) -> str:
    return scene.enter(scene.rows[0].name.split()[scene.place].rstrip(".,"))


def _enter_shown(scene: Scene) -> str:
    return scene.enter(scene.rows[0].name)


def _log_in(scene: Scene) -> str:
    cancel = scene.click("Cancel", "button")
    then = "OK" if scene.click("OK", "button") != NOTHING else "Login"
    return cancel if cancel != NOTHING else scene.enter(*scene.quoted, then=then)


def _look_up(scene: Scene) -> str:
    table = dict(row.name.split(" | ", 1) for row in scene.all("row"))
    named = re.search(r"value of (.*) into", scene.task)
    keys = [named[1]] if named else [row.name.rstrip(":") for row in scene.all("text")]
    return scene.enter(*(table[key] for key in keys))


def _calculate(scene: Scene) -> str:
    left, sign, right = re.findall(r"(\d+) ([-+x]) (\d+)", scene.rows[0].name)[0]
    a, b = int(left), int(right)
    return scene.enter(str({"+": a + b, "-": a - b, "x": a * b}[sign]))


def _focus(scene: Scene) -> str:
    return f"click {scene.all('textbox')[scene.place].bid}"


def _click_color(scene: Scene) -> str:
    color = f"color={scene.task.split()[3]}"
    return next((f"click {row.bid}" for row in scene.rows if color in row.states), NOTHING)


def _click_widget(scene: Scene) -> str:
    kind = scene.quoted[0]
    fits = scene.all("textbox" if kind in ("text", "textarea") else kind)
    return next((f"click {row.bid}" for row in fits if ("multiline" in row.states) == (kind == "textarea")), NOTHING)


def _mail(scene: Scene) -> str:
    sender = re.findall(r"email by (\w+)", scene.task)[0]
    icon = next((icon for icon in ("trash", "star") if icon in scene.task), "")
    if icon:
        place = next((place for place, row in enumerate(scene.rows) if row.name == sender), len(scene.rows))
        return next((f"click {row.bid}" for row in scene.rows[place:] if row.name == icon), NOTHING)
    deed = "reply" if "reply" in scene.task else "forward"
    if scene.rows[0].name == f"close-{deed}":
        field = scene.all("textbox")[0]
        text = scene.quoted[0] if deed == "reply" else re.findall(r"to (\w+)\.$", scene.task)[0]
        return scene.click(f"send-{deed}") if field.value == text else f"fill {field.bid} | {text}"
    return scene.click(deed.capitalize() if scene.rows[0].name == "close-email" else sender)


_PAGES: dict[Solver, str] = {
    _calculate: "simple-arithmetic",
    _choose: "choose-list click-scroll-list",
    _click_both: "click-button-sequence",
    _click_button: "click-dialog click-test click-test-2 click-test-transfer",
    _click_color: "click-color",
    _click_quoted: "click-button click-dialog-2 click-link unicode-test",
    _click_tab: "click-tab",
    _click_widget: "click-widget",
    _enter_case: "enter-text-2",
    _enter_date: "enter-date",
    _enter_quoted: "enter-text enter-text-dynamic",
    _enter_shown: "text-transform",
    _enter_time: "enter-time",
    _enter_twice: "enter-password",
    _enter_word: "find-word",
    _expand: "click-collapsible click-collapsible-nodelay",
    _focus: "focus-text focus-text-2",
    _follow_menu: "click-menu",
    _log_in: "login-user login-user-popup",
    _look_behind_tabs: "click-tab-2 click-tab-2-easy click-tab-2-medium click-tab-2-hard click-collapsible-2",
    _look_up: "read-table read-table-2",
    _mail: "email-inbox email-inbox-delete email-inbox-forward email-inbox-important email-inbox-reply",
    _open_folders: "navigate-tree",
    _tick: "click-checkboxes click-checkboxes-large click-checkboxes-transfer click-option",
}

SOLVERS: dict[str, Solver] = {page: solver for solver, pages in _PAGES.items() for page in pages.split()}
"""By the name of a page."""
