"""Small edits of Python source: one token or expression on one line becomes another.

The same edits make bugs (`turnwise swe build`) and mend them (the tool `fix`), so the set is closed: what one edit did,
another edit on the same line undoes. What it does is its *change*: the token that will stand there (`<=`, `and`, `3`,
a variable), or what is done to an expression (`not`, `neg`, `swap`, `return`, `drop`, `plus1`, `minus1`, `bare`).

The kinds are those of mutation testing (DeMillo, Lipton and Sayward 1978): comparison, boundary, operator, wrong
variable, swapped arguments, missing return.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from turnwise_envs.swe.syntax import parse

COMPARISONS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
ARITHMETIC = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip
BOOLEANS = {ast.And: "and", ast.Or: "or"}

ALIKE = (
    ("<", "<=", ">", ">="), ("==", "!="), ("is", "is not"), ("in", "not in"), ("+", "-"), ("*", "/", "//", "%"),
    ("and", "or"), ("True", "False"), ("min", "max"), ("any", "all"), ("append", "extend"), ("startswith", "endswith"),
    ("lower", "upper"), ("keys", "values", "items"), ("sorted", "reversed"),
    ("lstrip", "rstrip", "strip"), ("break", "continue"),
    ("find", "rfind"), ("int", "float"), ("append", "appendleft"), ("pop", "popleft"),
)  # fmt: skip
"""Words of which each may become any other of its set."""

NO_STATEMENTS = (ast.Constant, ast.Yield, ast.YieldFrom, ast.Await)
"""Expressions that stand alone for reasons of their own, or never do."""

MAX_NUMBER = 20
"""Numbers beyond it are left alone."""


NEAR = 2
"""How far from a variable another one may have come into being to take its place."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Edit:
    """One edit of a source text."""

    line: int  # of the text, from 1 on; where the place begins
    start: int  # characters from the text's beginning
    end: int
    change: str  # what will stand there, or what is done
    new: str  # the text that will stand there
    kind: str = ""  # comparison, operator, boundary, number, variable, swap, return, word

    def apply(self, source: str) -> str:
        """Return the text with the edit made."""
        return source[: self.start] + self.new + source[self.end :]


def edits(source: str, first_line: int, last_line: int) -> list[Edit]:
    """Return every edit of the lines from `first_line` to `last_line`, in order; each leaves text that compiles.

    SyntaxError where the source itself does not.
    """
    tree = parse(source)
    text = _Text(source)
    found: set[Edit] = set()
    for function in _around(tree, first_line, last_line):
        names = _names(function)
        for node in _own(function):
            if first_line <= getattr(node, "lineno", 0) and getattr(node, "end_lineno", 0) <= last_line:
                found |= set(_of(node, text, names))
    compiles = _Compiles(_around(tree, first_line, last_line), text)
    return sorted(edit for edit in found if first_line <= edit.line <= last_line and compiles(edit))


class _Text:
    """A source and where its lines begin; `ast` counts columns in bytes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        text = self._lines[line - 1]
        return self._starts[line - 1] + (column if text.isascii() else len(text.encode()[:column].decode()))

    def line_at(self, place: int) -> int:
        return self.source.count("\n", 0, place) + 1

    def span(self, node: ast.AST) -> tuple[int, int]:
        start = self.at(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return start, self.at(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def edit(self, start: int, end: int, change: str, new: str, kind: str) -> Edit:
        return Edit(line=self.line_at(start), start=start, end=end, change=change, new=new, kind=kind)


def _around(tree: ast.Module, first_line: int, last_line: int) -> Iterator[ast.AST]:
    """Return the functions that lie in these lines or around them, the outer ones first, or the module."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    touched = [node for node in functions if node.lineno <= last_line and (node.end_lineno or 0) >= first_line]
    yield from sorted(touched, key=lambda node: node.lineno) if touched else (tree,)


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """Return what belongs to a function: not to functions within it, not its annotations, docstring and decorators."""
    waiting: list[ast.AST] = []
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        waiting += [*function.args.defaults, *(node for node in function.args.kw_defaults if node)]
        waiting += function.body
    else:
        waiting += list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.JoinedStr):
            waiting += [child for child in ast.iter_child_nodes(node) if not _is_annotation(node, child)]


def _is_annotation(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign) and child is node.annotation


def _names(function: ast.AST) -> list[str]:
    """Return the function's own variables, its parameters first, in order of appearance."""
    found: dict[str, None] = {}
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        given = function.args
        parameters = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        found = dict.fromkeys(parameter.arg for parameter in parameters if parameter)
    stored = [node for node in _own(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    stored.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys([*found, *(node.id for node in stored)]))


def _of(node: ast.AST, text: _Text, names: Sequence[str]) -> Iterator[Edit]:
    """Return the edits of one node itself."""
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            yield from _operator(COMPARISONS[type(operator)], left, right, text, "comparison")
        if not isinstance(node.ops[-1], ast.Is | ast.IsNot | ast.In | ast.NotIn):
            yield from _shifted(node.comparators[-1], text)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield from _operator(ARITHMETIC[type(node.op)], node.left, node.right, text, "operator")
        yield from _bare(node, text)
        if isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod):
            yield from _swapped(node.left, node.right, text)
    elif isinstance(node, ast.BoolOp):
        yield from _joined(node, text)
    elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield from _operator(ARITHMETIC[type(node.op)], node.target, node.value, text, "operator")
    elif isinstance(node, ast.UnaryOp):
        yield from _without(node, text)
    elif isinstance(node, ast.Constant):
        yield from _constant(node, text)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _renamed(node, text, names)
    elif isinstance(node, ast.Attribute):
        yield from _word(node.attr, text.span(node)[1] - len(node.attr), text)
    elif isinstance(node, ast.Call):
        yield from _arguments(node, text)
    elif isinstance(node, ast.Subscript):
        yield from _slice(node.slice, text)
    elif isinstance(node, ast.Break | ast.Continue):
        yield from _word(text.of(node), text.span(node)[0], text)
    elif isinstance(node, ast.Return) and node.value is not None:
        if not isinstance(node.value, NO_STATEMENTS):
            yield from _dropped(node, node.value, text)
        yield from _negated(node.value, text)
    elif isinstance(node, ast.Expr) and not isinstance(node.value, NO_STATEMENTS):
        start, _ = text.span(node)
        yield text.edit(start, start, "return", "return ", "return")
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield from _negated(node.test, text)


def _dropped(node: ast.Return, value: ast.AST, text: _Text) -> Iterator[Edit]:
    """Return the edit that takes `return` from before its value."""
    start, end = text.span(node)[0], text.span(value)[0]
    if text.source[start:end] == "return ":
        yield text.edit(start, end, "drop", "", "return")


def _operator(word: str, left: ast.AST, right: ast.AST, text: _Text, kind: str) -> Iterator[Edit]:
    """Return the edits of the operator that stands between two operands."""
    start, end = text.span(left)[1], text.span(right)[0]
    pattern = r"\s+".join(rf"\b{part}\b" for part in word.split()) if word[0].isalpha() else re.escape(word)
    match = re.search(pattern, text.source[start:end])
    if match is not None:
        yield from _alike(word, start + match.start(), start + match.end(), text, kind)


def _alike(word: str, start: int, end: int, text: _Text, kind: str) -> Iterator[Edit]:
    for other in sorted({other for group in ALIKE if word in group for other in group} - {word}):
        yield text.edit(start, end, other, other, kind)


def _word(word: str, start: int, text: _Text) -> Iterator[Edit]:
    yield from _alike(word, start, start + len(word), text, "word")


def _joined(node: ast.BoolOp, text: _Text) -> Iterator[Edit]:
    """Return the edits of `and` and `or`, of which one node holds a row of equal ones; only pairs can be undone."""
    if len(node.values) == 2:
        yield from _operator(BOOLEANS[type(node.op)], node.values[0], node.values[1], text, "operator")
    for value in node.values:
        yield from _negated(value, text)


def _negated(node: ast.AST, text: _Text) -> Iterator[Edit]:
    """Return `not` before a condition that is no comparison, whose own operator can turn."""
    if isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript):
        start, _ = text.span(node)
        yield text.edit(start, start, "not", "not ", "operator")


def _without(node: ast.UnaryOp, text: _Text) -> Iterator[Edit]:
    """Return the edit that takes `not` or a minus away."""
    start, inner = text.span(node)[0], text.span(node.operand)[0]
    if isinstance(node.op, ast.Not) and text.source[start:inner] == "not ":
        yield text.edit(start, inner, "not", "", "operator")
    if isinstance(node.op, ast.USub) and text.source[start:inner] == "-":
        yield text.edit(start, inner, "neg", "", "operator")


def _constant(node: ast.Constant, text: _Text) -> Iterator[Edit]:
    start, end = text.span(node)
    if isinstance(node.value, bool):
        yield text.edit(start, end, str(not node.value), str(not node.value), "word")
    elif isinstance(node.value, int) and text.source[start:end].isdigit() and node.value <= MAX_NUMBER:
        for other in (node.value - 1, node.value + 1):
            if 0 <= other <= MAX_NUMBER:
                yield text.edit(start, end, str(other), str(other), "number")
        if node.value and text.source[:start].rstrip()[-1:] in ("(", ",", "[", ":", "=", "n"):
            yield text.edit(start, start, "neg", "-", "operator")


def _renamed(node: ast.Name, text: _Text, names: Sequence[str]) -> Iterator[Edit]:
    start, end = text.span(node)
    if node.id not in names:
        yield from _word(node.id, start, text)
        return
    for other in _near(names, names.index(node.id)):
        yield text.edit(start, end, other, other, "variable")


def _near(names: Sequence[str], place: int) -> list[str]:
    """Return the names that come into being next to one: a relation that holds both ways, and keeps edits few."""
    around = {(place + step) % len(names) for step in range(-NEAR, NEAR + 1)} - {place}
    return [names[i] for i in sorted(around)]


def _arguments(node: ast.Call, text: _Text) -> Iterator[Edit]:
    """Return the edits that swap neighbours among the arguments, and those that move a bound of `range`."""
    for left, right in zip(node.args, node.args[1:], strict=False):
        if not isinstance(left, ast.Starred) and not isinstance(right, ast.Starred):
            yield from _swapped(left, right, text)
    if isinstance(node.func, ast.Name) and node.func.id in ("range", "islice"):
        for argument in node.args:
            yield from _shifted(argument, text)


def _swapped(left: ast.AST, right: ast.AST, text: _Text) -> Iterator[Edit]:
    (start, middle), (after, end) = text.span(left), text.span(right)
    first, between, second = text.source[start:middle], text.source[middle:after], text.source[after:end]
    if first != second and "\n" not in text.source[start:end]:
        yield text.edit(start, end, "swap", second + between + first, "swap")


def _slice(node: ast.AST, text: _Text) -> Iterator[Edit]:
    parts = [node.lower, node.upper] if isinstance(node, ast.Slice) else [node]
    for part in parts:
        if part is not None:
            yield from _shifted(part, text)


def _shifted(node: ast.AST, text: _Text) -> Iterator[Edit]:
    """Return the edits that add 1 to a bound or take 1 from it; numbers have edits of their own."""
    if isinstance(node, ast.Name | ast.Call | ast.Attribute):
        _, end = text.span(node)
        yield text.edit(end, end, "plus1", " + 1", "boundary")
        yield text.edit(end, end, "minus1", " - 1", "boundary")


def _bare(node: ast.BinOp, text: _Text) -> Iterator[Edit]:
    """Return the edit that takes ` + 1` or ` - 1` away."""
    is_one = isinstance(node.right, ast.Constant) and node.right.value == 1 and type(node.right.value) is int
    if is_one and isinstance(node.op, ast.Add | ast.Sub):
        start, end = text.span(node.left)[1], text.span(node)[1]
        if text.source[start:end] in (" + 1", " - 1"):
            yield text.edit(start, end, "bare", "", "boundary")


class _Compiles:
    """Whether an edited text still compiles: of a function, its own lines alone are tried, since files are long."""

    def __init__(self, functions: Iterable[ast.AST], text: _Text) -> None:
        self._text = text
        found = [node for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        self._functions = [node for node in found if _is_code(self._lines(node))]

    def __call__(self, edit: Edit) -> bool:
        around = [node for node in self._functions if node.lineno <= edit.line <= (node.end_lineno or 0)]
        if not around:
            return _is_code(edit.apply(self._text.source))
        return _is_code(self._lines(around[0], edit))

    def _lines(self, node: ast.FunctionDef | ast.AsyncFunctionDef, edit: Edit | None = None) -> str:
        start, end = self._text.at(node.lineno, 0), self._text.span(node)[1]
        if edit is None:
            return textwrap.dedent(self._text.source[start:end])
        return textwrap.dedent(self._text.source[start : edit.start] + edit.new + self._text.source[edit.end : end])


def _is_code(source: str) -> bool:
    try:
        compile(source, "<edit>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True
