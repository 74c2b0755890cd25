"""Bugs of one function: every way to spoil it that the seed leads to, in an order that is fair to kinds.

Most are single edits of `operators.py`, each of which another one of them undoes. The rest has no such inverse: a
dropped branch, a dropped statement, a wrong default, and two single edits at once. No bug is made in decorators,
docstrings or annotations, and none that does not compile.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from turnwise_envs.swe.lines import first_line
from turnwise_envs.swe.operators import Edit, edits
from turnwise_envs.swe.syntax import parse

Piece = tuple[int, int, str]
"""Characters from start to end become a text."""

ODD_ENDS = "[\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]"
"""Ends of lines for `splitlines` and not for `ast`, or the other way round; files with them are left alone."""

COMBINATION = "combination"
MAX_PAIRS = 12
WRONG_DEFAULTS = {"None": "False", '""': '" "', "''": "' '", "()": "(None,)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A function that may get a bug."""

    path: str
    name: str  # with its class
    first_line: int  # of `def`, from 1 on
    last_line: int
    place: tuple[str, int]  # as a trace names it: the file, and the first line with decorators
    start: int  # characters from the file's beginning to that of the line of `def`
    end: int  # and to the end of its last line
    num_lines: int  # of code: without docstring, comments and empty ones
    is_method: bool

    @property
    def is_public(self) -> bool:
        """Whether no part of its name begins with an underscore."""
        return not any(part.startswith("_") for part in self.name.split("."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """A function with a bug."""

    target: Target
    operators: tuple[str, ...]  # kinds of the edits
    pieces: tuple[Piece, ...]  # in order, none touching another

    @property
    def is_single(self) -> bool:
        """Whether it is one edit of `operators.py`."""
        return len(self.operators) == 1 and self.operators[0] not in EXTRA

    def apply(self, source: str) -> str:
        """Return the file's text with the bug."""
        for start, end, new in reversed(self.pieces):
            source = source[:start] + new + source[end:]
        return source


def targets(path: str, source: str) -> list[Target]:
    """Return the functions of a file and the methods of its classes; what is within a function belongs to it."""
    if re.search(ODD_ENDS, source):
        return []
    found = []
    starts = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    waiting: list[tuple[str, ast.AST]] = [("", parse(source))]
    while waiting:
        prefix, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                waiting.append((f"{prefix}{child.name}.", child))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(_target(path, prefix, child, source, starts))
            elif isinstance(child, ast.If | ast.Try | ast.With):
                waiting.append((prefix, child))
    return sorted(found, key=lambda target: target.first_line)


def is_inverted(mutant: Mutant, source: str) -> bool:
    """Whether one edit of `operators.py` undoes the bug."""
    spoiled = mutant.apply(source)
    own = Own(mutant.target, spoiled, more=len(spoiled) - len(source))
    return any(edit.apply(own.text) == Own(mutant.target, source).text for edit in own.edits())


class Bugs:
    """The bugs of one function."""

    def __init__(self, target: Target, source: str, rng: random.Random) -> None:
        """`source`: its file's text."""
        self._target, self._own, self._rng = target, Own(target, source), rng
        self._edits = self._own.edits()

    def singles(self) -> Iterator[Mutant]:
        """Yield its single edits, kinds by turns."""
        by_kind: dict[str, list[Mutant]] = defaultdict(list)
        for edit in self._edits:
            by_kind[edit.kind].append(self._mutant((edit.kind,), (edit.start, edit.end, edit.new)))
        yield from self._by_turns(by_kind)

    def extras(self) -> Iterator[Mutant]:
        """Yield its other bugs, kinds by turns."""
        by_kind = {kind: self._each(kind, make(self._own)) for kind, make in EXTRA.items()}
        yield from self._by_turns({**by_kind, COMBINATION: self._pairs()})

    def _each(self, kind: str, pieces: Iterable[Piece]) -> list[Mutant]:
        return [self._mutant((kind,), piece) for piece in pieces if self._own.compiles_with(piece)]

    def _mutant(self, operators: tuple[str, ...], *pieces: Piece) -> Mutant:
        shift = self._own.shift
        moved = tuple((start + shift, end + shift, new) for start, end, new in pieces)
        return Mutant(target=self._target, operators=operators, pieces=moved)

    def _by_turns(self, by_kind: dict[str, list[Mutant]]) -> Iterator[Mutant]:
        kinds = sorted(by_kind)
        self._rng.shuffle(kinds)
        shuffled = [self._rng.sample(by_kind[kind], len(by_kind[kind])) for kind in kinds]
        for row in itertools.zip_longest(*shuffled):
            yield from (mutant for mutant in row if mutant is not None)

    def _pairs(self) -> list[Mutant]:
        """Return some pairs of single edits that lie apart."""
        pairs = []
        for _ in range(MAX_PAIRS if len(self._edits) > 1 else 0):
            first, second = sorted(self._rng.sample(self._edits, 2), key=lambda edit: (edit.start, edit.end))
            if first.end < second.start and first.line != second.line:
                both = ((edit.start, edit.end, edit.new) for edit in (first, second))
                pairs.append(self._mutant((first.kind, second.kind), *both))
        return pairs


class Own:
    """The lines of one function as a text of their own: files are long, and each edit would parse them anew."""

    def __init__(self, target: Target, source: str, more: int = 0) -> None:
        """`more`: characters that a bug made the function longer by."""
        lines = source[target.start : target.end + more]
        before = "if 1:\n" if lines[:1].isspace() else ""
        self.text = before + lines
        self.shift = target.start - len(before)
        """What is added to a place in it to get the place in the file."""
        self.lines = self.text.splitlines(keepends=True)
        self.starts = [0, *itertools.accumulate(map(len, self.lines))]
        tree = parse(self.text)
        self.function = next(
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )

    def edits(self) -> list[Edit]:
        """Return the single edits of the function."""
        return edits(self.text, self.function.lineno, self.function.end_lineno or 0)

    def statements(self) -> Iterator[ast.stmt]:
        """Yield its statements that have their lines for themselves, but its docstring."""
        for node in ast.walk(self.function):
            if isinstance(node, ast.stmt) and node is not self.function:
                before = self.lines[node.lineno - 1].encode()[: node.col_offset]
                after = self.lines[(node.end_lineno or 0) - 1].encode()[node.end_col_offset :]
                if not before.strip() and not after.split(b"#")[0].strip():
                    yield node

    def without(self, first: int, last: int) -> Iterator[Piece]:
        """Yield the change that takes whole lines away, and the one that puts `pass` there, for a block left empty."""
        line = self.lines[first - 1]
        indent = line[: len(line) - len(line.lstrip())]
        whole = (self.starts[first - 1], self.starts[last], "")
        yield whole if self.compiles_with(whole) else (*whole[:2], f"{indent}pass\n")

    def compiles_with(self, piece: Piece) -> bool:
        """Whether it is Python with a change."""
        start, end, new = piece
        try:
            compile(self.text[:start] + new + self.text[end:], "<mutant>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
        return True


def _branches(own: Own) -> Iterator[Piece]:
    """Yield the loss of one branch each: an `if` that has no other one, an `elif`, or an `else`."""
    for node in own.statements():
        if not isinstance(node, ast.If):
            continue
        if own.lines[node.lineno - 1].lstrip().startswith("elif"):
            yield from own.without(node.lineno, node.body[-1].end_lineno or 0)
        elif not node.orelse:
            yield from own.without(node.lineno, node.end_lineno or 0)
        above = node.orelse[0].lineno - 1 if node.orelse else 0
        if node.orelse and own.lines[above - 1].strip() == "else:":
            yield from own.without(above, node.end_lineno or 0)


def _dropped(own: Own) -> Iterator[Piece]:
    """Yield the loss of one statement each that changes something."""
    for node in own.statements():
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if is_call or isinstance(node, ast.AugAssign | ast.Continue | ast.Break):
            yield from own.without(node.lineno, node.end_lineno or 0)


def _defaults(own: Own) -> Iterator[Piece]:
    """Yield another default of a parameter each."""
    given = own.function.args
    for node in [*given.defaults, *(value for value in given.kw_defaults if value)]:
        written = ast.get_source_segment(own.text, node)
        new = WRONG_DEFAULTS.get(written or "", '""' if isinstance(node, ast.Constant) and node.value else None)
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if new is not None and (is_text or written in WRONG_DEFAULTS) and own.text.isascii():
            start = own.starts[node.lineno - 1] + node.col_offset
            yield start, start + len(written or ""), new


EXTRA: dict[str, Callable[[Own], Iterator[Piece]]] = {
    "branch": _branches,
    "statement": _dropped,
    "default": _defaults,
}
"""Kinds without an inverse among the edits of `operators.py`."""


def _target(
    path: str, prefix: str, node: ast.FunctionDef | ast.AsyncFunctionDef, source: str, starts: Sequence[int]
) -> Target:
    return Target(
        path=path,
        name=prefix + node.name,
        first_line=node.lineno,
        last_line=node.end_lineno or node.lineno,
        place=(path, first_line(node)),
        start=starts[node.lineno - 1],
        end=starts[node.end_lineno or node.lineno],
        num_lines=_num_lines(node, source),
        is_method=bool(prefix),
    )


def _num_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    """Return the number of lines that say something, the docstring left out."""
    lines = source.splitlines()
    wanted = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    if ast.get_docstring(node) is not None:
        wanted -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    texts = (lines[number - 1].strip() for number in wanted)
    return sum(bool(text) and not text.startswith("#") for text in texts)
