"""The rows of a plain page, without a browser: what `page.js` makes of it there, by the rules at its head.

The same for pages without scripts, as far as style sheets hide nothing on them. Left out is what takes a browser:
frames, drawings, editable paragraphs, and where things are; of a picture there is its name.
"""

from __future__ import annotations

from typing import Any

from turnwise_envs.web.markup import Document, Element, words
from turnwise_envs.web.tree import Row, quoted, rows_of

_INLINE = words(
    "abbr b bdi bdo big br cite code del dfn em font i ins kbd label mark q s samp small span strong sub sup time tt u "
    "var wbr"
)
_SKIPPED = words("head script style noscript template defs title desc source")
_PLAIN_ROLES = words(
    "presentation none application list listitem main region banner contentinfo paragraph table rowgroup cell gridcell "
    "columnheader rowheader generic"
)
_LEAVES = words(
    "button link checkbox radio switch tab menuitem menuitemcheckbox menuitemradio option treeitem img textbox "
    "searchbox slider spinbutton file canvas iframe"
)
FIELDS = words("textbox searchbox slider spinbutton combobox")
_ROLES = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    "button": "button", "summary": "button", "textarea": "textbox", "img": "img", "dialog": "dialog", "tr": "row",
}  # fmt: skip
_INPUTS = {
    **dict.fromkeys(("button", "submit", "reset", "image"), "button"),
    "checkbox": "checkbox", "radio": "radio", "range": "slider", "number": "spinbutton", "file": "file",
}  # fmt: skip
_CONTROLS = frozenset(("button", "input", "select", "textarea"))
_MAX_ROWS, _MAX_TEXT, _MAX_HINT = 2000, 1000, 40

Found = tuple[int, Element, str, str, list[str]]
"""Depth, element, role, name, states."""


def read(document: Document) -> list[Row]:
    """Return what the page shows."""
    reading = _Reading(document)
    reading.walk(document.root, 0)
    found = reading.found[:_MAX_ROWS]
    return rows_of((depth, document.number(one), role, name, states, 1) for depth, one, role, name, states in found)


def role_of(element: Element) -> str:
    """Return what an element is; empty for one that has no row of its own."""
    given = element.attributes.get("role", "").split(" ")[0]
    if given and given not in _PLAIN_ROLES:
        return given
    if element.tag == "input":
        return _INPUTS.get(element.kind, "textbox")
    if element.tag == "select":
        size = element.attributes.get("size", "")
        return "listbox" if "multiple" in element.attributes or (size.isdigit() and int(size) > 1) else "combobox"
    if element.tag == "a":
        return "link" if "href" in element.attributes else ""
    return _ROLES.get(element.tag, "")


class _Reading:
    """One look at a page; the methods are those of `page.js`."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.found: list[Found] = []

    def walk(self, element: Element, depth: int) -> None:
        if element.is_hidden:
            return
        role = role_of(element)
        if element.tag == "label" and self._is_spoken(element):
            for control in element.below():
                if role_of(control) or _is_listening(control):
                    self.walk(control, depth)
        elif element.tag == "select":
            self._add(depth, element, role)
            for option in element.below():
                if option.tag == "option":
                    name = _cut(option.attributes.get("label") or option.text)
                    self.found.append((depth + 1, option, "option", name, self._states(option, "option")))
        elif _is_leaf(element, role):
            self._add(depth, element, role, element.attributes)
        elif role or _is_listening(element):
            self._container(element, role, depth)
        else:
            self._inside(element, depth)

    def _add(self, depth: int, element: Element, role: str, hints: dict[str, str] | None = None) -> None:
        name = self._name(element, role) or (_hint(hints) if hints else "")
        self.found.append((depth, element, role, name, self._states(element, role)))

    def _inside(self, element: Element, depth: int) -> None:
        texts: list[str] = []

        def flush() -> None:
            if text := _cut("".join(texts)):
                self.found.append((depth, element, "text", text, []))
            texts.clear()

        for child in element.children:
            if isinstance(child, str):
                texts.append(child)
            elif child.tag in _SKIPPED or len(self.found) > _MAX_ROWS:
                continue
            elif not _is_plain(child):
                flush()
                self.walk(child, depth)
            elif child.tag != "label" or not self._is_spoken(child):
                texts.append(_text(child))
        flush()

    def _container(self, element: Element, role: str, depth: int) -> None:
        place, name = len(self.found), self._name(element, role)
        states = self._states(element, role)
        self.found.append((depth, element, role or "clickable", name, states))
        self._inside(element, depth + 1)
        inner = self.found[place + 1 :]
        if not name and all(row[2] == "text" for row in inner) and (role == "row" or len(inner) <= 1):
            del self.found[place + 1 :]
            name, inner = " | ".join(row[3] for row in inner), []
        if not inner and not name:
            name = _hint(element.attributes)
            if not _is_listening(element):
                del self.found[place]
                return
        self.found[place] = (depth, element, role or "clickable", name, states)

    def _name(self, element: Element, role: str) -> str:
        given = element.attributes
        named = [self._document.named(one) for one in given.get("aria-labelledby", "").split()]
        labels = self._document.labels.get(element, [])
        own = ""
        if element.tag in ("input", "select", "textarea"):
            own = element.value if role == "button" else ""
        elif _is_leaf(element, role) and role not in FIELDS:
            own = _text(element)
        names = [
            given.get("aria-label", ""),
            " ".join(one.text if one else "" for one in named),
            " ".join("".join(_text(child) for child in label.children if child is not element) for label in labels),
            own,
            *(given.get(name, "") for name in ("alt", "placeholder", "title")),
        ]
        return next(filter(None, map(_cut, names)), "")

    def _states(self, element: Element, role: str) -> list[str]:
        given, tag = element.attributes, element.tag
        said = {name: given.get(f"aria-{name}", "") for name in ("checked", "selected", "expanded", "pressed")}
        value = element.value[:_MAX_TEXT] if role in FIELDS and tag in ("input", "textarea") else ""
        states = {
            f"value={quoted(value)}" if value else "": bool(value),
            "checked": (tag == "input" and element.checked) or said["checked"] == "true",
            "selected": (role == "option" and element.selected) or said["selected"] == "true",
            "expanded": said["expanded"] == "true",
            "collapsed": said["expanded"] not in ("", "true"),
            "pressed": said["pressed"] == "true",
            "disabled": element.is_disabled,
            "readonly": tag in ("input", "textarea") and "readonly" in given,
            "multiline": tag == "textarea",
            "focused": element is self._document.focused,
        }
        return [state for state, holds in states.items() if holds]

    def _is_spoken(self, label: Element) -> bool:
        control = self._document.control(label)
        return control is not None and control.is_drawn


def _is_listening(element: Element) -> bool:
    return element.attributes.get("tabindex", "").isdigit()


def _is_plain(element: Element) -> bool:
    is_text = element.tag in _INLINE and not role_of(element) and not _is_listening(element)
    return is_text and all(_is_plain(child) for child in element.elements)


def _is_leaf(element: Element, role: str) -> bool:
    return role in _LEAVES and not any(one.tag in _CONTROLS for one in element.below())


def _text(node: Element | str) -> str:
    """Return the text that is drawn in a node, blocks apart."""
    if isinstance(node, str):
        return node
    if node.tag in _SKIPPED or node.is_hidden:
        return ""
    apart = "" if node.tag in _INLINE and node.tag != "br" else " "
    return f"{apart}{node.attributes.get('alt', '')}{''.join(map(_text, node.children))}{apart}"


def _hint(attributes: dict[str, str]) -> str:
    classes = [word for word in attributes.get("class", "").split() if not word.startswith("ui-")]
    return (attributes.get("id") or " ".join(classes))[:_MAX_HINT]


def _cut(text: Any) -> str:
    return " ".join(text.split())[:_MAX_TEXT]
