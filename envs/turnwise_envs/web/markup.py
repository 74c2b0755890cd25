"""HTML as a tree of elements, without a browser: what `reading.py` makes rows of and `plain.py` fills in.

For well-formed pages; of what HTML allows to be left out, the ends of paragraphs, list items, options and table cells
are understood. Scripts are not run and style sheets not read: what is hidden is what its own attributes hide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


VOID = words("area base br col embed hr img input link meta source track wbr")
DISABLEABLE = words("button fieldset input optgroup option select textarea")
LABELABLE = words("button input meter output progress select textarea")

_BLOCKS = "address article aside div dl fieldset footer form h1 h2 h3 h4 h5 h6 header hr main nav ol p section table ul"
_ENDS = {
    **dict.fromkeys(_BLOCKS.split(), frozenset(("p",))),
    "li": frozenset(("li", "p")),
    "option": frozenset(("option",)),
    **dict.fromkeys(("dd", "dt"), frozenset(("dd", "dt", "p"))),
    **dict.fromkeys(("td", "th"), frozenset(("td", "th", "p"))),
    "tr": frozenset(("td", "th", "tr", "p")),
}
"""Open elements that the beginning of another one ends."""

_MAX_DEPTH = 200
"""Elements within each other; what is deeper stands beside the last of them, as it does in browsers at 512."""

_UNDRAWN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


class Element:
    """One element, with what has been entered into it."""

    __slots__ = ("attributes", "checked", "children", "depth", "parent", "selected", "tag", "value")

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None) -> None:
        """Begin one without children."""
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: list[Element | str] = []
        self.value = attributes.get("value", "")
        self.checked, self.selected = "checked" in attributes, "selected" in attributes

    @property
    def kind(self) -> str:
        """The type of an input or a button."""
        return self.attributes.get("type", "submit" if self.tag == "button" else "text").casefold()

    @property
    def is_disabled(self) -> bool:
        """Whether it cannot be used."""
        is_set = self.tag in DISABLEABLE and "disabled" in self.attributes
        return is_set or self.attributes.get("aria-disabled") == "true"

    @property
    def elements(self) -> list[Element]:
        """The elements right below it."""
        return [child for child in self.children if isinstance(child, Element)]

    @property
    def text(self) -> str:
        """All text in it."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def is_drawn(self) -> bool:
        """Whether neither it nor what it is in is hidden."""
        return not self.is_hidden and (self.parent is None or self.parent.is_drawn)

    @property
    def is_hidden(self) -> bool:
        """Whether its own attributes hide it."""
        given = self.attributes
        is_kept_back = self.tag == "datalist" or (self.tag == "input" and self.kind == "hidden")
        is_closed = self.tag == "dialog" and "open" not in given
        return is_kept_back or is_closed or "hidden" in given or bool(_UNDRAWN.search(given.get("style", "")))

    def below(self) -> Iterator[Element]:
        """Yield all elements below it, in the order of the document."""
        for child in self.elements:
            yield child
            yield from child.below()

    def above(self, *tags: str) -> Element | None:
        """Return the nearest element of these kinds that it is in, itself included."""
        found: Element | None = self
        while found is not None and found.tag not in tags:
            found = found.parent
        return found


class Document:
    """A page as it stands: its elements, the numbers of those that were shown, and where the focus is."""

    def __init__(self, text: str) -> None:
        """Parse a page; whatever the text is, there is one."""
        builder = _Builder()
        builder.feed(text)
        builder.close()
        self.root = builder.root
        self.focused: Element | None = None
        self._numbers: dict[Element, int] = {}
        self._shown: list[Element] = []
        everything = list(self.root.below())
        self._named = {one.attributes["id"]: one for one in reversed(everything) if "id" in one.attributes}
        self.labels: dict[Element, list[Element]] = {}
        for one in everything:
            if one.tag == "label" and (control := self.control(one)) is not None:
                self.labels.setdefault(control, []).append(one)
            elif one.tag == "textarea":
                one.value = one.text.removeprefix("\n")
            elif one.tag == "select":
                _choose_first(one)

    def named(self, name: str) -> Element | None:
        """Return the element with this id."""
        return self._named.get(name)

    def control(self, label: Element) -> Element | None:
        """Return what a label is for."""
        if "for" in label.attributes:
            named = self.named(label.attributes["for"])
            return named if named is not None and _is_labelable(named) else None
        return next((one for one in label.below() if _is_labelable(one)), None)

    def number(self, element: Element) -> int:
        """Return the number by which actions name it: they count up in the order of first being shown."""
        if element not in self._numbers:
            self._shown.append(element)
            self._numbers[element] = len(self._shown)
        return self._numbers[element]

    def find(self, number: int) -> Element | None:
        """Return the element with this number."""
        return self._shown[number - 1] if 1 <= number <= len(self._shown) else None


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self._open = Element("html", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self._open.tag in _ENDS.get(tag, ()) and self._open.parent is not None:
            self._open = self._open.parent
        given = {name: value or "" for name, value in reversed(attrs)}  # of two alike the first one counts
        element = Element(tag, given, self._open)
        self._open.children.append(element)
        if tag not in VOID and element.depth < _MAX_DEPTH:
            self._open = element

    def handle_endtag(self, tag: str) -> None:
        ended = self._open.above(tag)
        if ended is not None and ended.parent is not None:
            self._open = ended.parent

    def handle_data(self, data: str) -> None:
        self._open.children.append(data)


def _is_labelable(element: Element) -> bool:
    return element.tag in LABELABLE and not (element.tag == "input" and element.kind == "hidden")


def _choose_first(select: Element) -> None:
    """Select what a list shows that says nothing of it, and the last one where it says several."""
    options = [one for one in select.below() if one.tag == "option"]
    if "multiple" not in select.attributes and options:
        chosen = [one for one in options if one.selected][-1:] or options[:1]
        for one in options:
            one.selected = one in chosen
