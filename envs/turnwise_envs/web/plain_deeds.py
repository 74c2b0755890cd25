"""What a policy may do on a page without a browser: those of `deeds.py` that need neither mouse nor keyboard.

A click on what is no control only takes the focus away; one on what has controls in it would depend on where they are
drawn, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from turnwise.errors import InvalidAction
from turnwise_envs.web.markup import Element
from turnwise_envs.web.session import MAX_NOTE, refuse

if TYPE_CHECKING:
    from turnwise_envs.web.plain import PlainSession

_CONTROLS = frozenset(("a", "button", "input", "select", "textarea"))


async def enter(session: PlainSession, url: str) -> None:
    """Load the first page of the site."""
    session.go(url)


async def travel(session: PlainSession, *, is_forward: bool) -> None:
    """Go back or forward."""
    session.travel(1 if is_forward else -1)


async def click(session: PlainSession, bid: str) -> None:
    """Click an element: follow a link, send a form, check a box."""
    element = session.aim(bid)
    target = element.above("a", "button") or element
    if target.tag not in _CONTROLS and any(one.tag in _CONTROLS for one in target.below()):
        refuse(bid, "click what is in it")
    session.document.focused = target if _takes_focus(target) else None
    if target.tag == "a" and "href" in target.attributes:
        if not target.attributes["href"].startswith("#"):
            session.go(target.attributes["href"])
    elif target.tag == "button" or (target.tag == "input" and target.kind in ("submit", "image")):
        _push(session, target)
    elif target.tag == "input" and target.kind == "checkbox":
        target.checked = not target.checked
    elif target.tag == "input" and target.kind == "radio":
        _tune(session, target)


async def fill(session: PlainSession, bid: str, text: str) -> None:
    """Enter a text into a field, instead of what is there."""
    element = session.aim(bid, "text")
    element.value = text if element.tag == "textarea" else text.replace("\r", "").replace("\n", "")
    session.document.focused = element


async def choose(session: PlainSession, bid: str, options: Sequence[str]) -> None:
    """Choose options of a list, and no others, by what they say or by their values."""
    element = session.aim(bid, "list")
    known = [one for one in element.below() if one.tag == "option"]
    names = [
        ((said := " ".join((one.attributes.get("label") or one.text).split())), one.attributes.get("value", said))
        for one in known
    ]
    for text in options:
        if not any(text in both for both in names):
            raise InvalidAction(
                f"no option {text[:40]}; expected one of {', '.join(label for label, _ in names)[:MAX_NOTE]}"
            )
    places = [next(place for place, both in enumerate(names) if text in both) for text in options]
    chosen = places if "multiple" in element.attributes else sorted(places)[:1]
    for place, one in enumerate(known):
        one.selected = place in chosen


def _takes_focus(element: Element) -> bool:
    is_link = element.tag == "a" and "href" in element.attributes
    return is_link or element.tag in _CONTROLS - {"a"} or element.attributes.get("tabindex", "").isdigit()


def _push(session: PlainSession, button: Element) -> None:
    form = session.owner(button)
    if form is not None and button.kind in ("submit", "image"):
        session.submit(form, button)


def _tune(session: PlainSession, radio: Element) -> None:
    """Check one of a group, and no other one."""
    name, form = radio.attributes.get("name"), session.owner(radio)
    for other in session.document.root.below():
        is_radio = other.tag == "input" and other.kind == "radio" and other.attributes.get("name") == name
        if is_radio and name and session.owner(other) is form:
            other.checked = False
    radio.checked = True
