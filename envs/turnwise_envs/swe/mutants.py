"""Bugs of one function: every way to spoil it that the seed leads to, in an order that is fair to kinds.

Most are single edits of `operators.py`, each of which another one of them undoes. The rest has no such inverse: a dropped
branch, a dropped statement, a wrong default, and two single edits at once. No bug is made in decorators, docstrings or
annotations, and none that does not compile.
"""

from __future__ import annotations

import ast
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnwise_envs.swe.operators import edits

Piece = tuple[int, int, str]
"""Characters from start to end become a text."""

WRONG_DEFAULTS = {None: "False", "": '" "', (): "(None,)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A function that may get a bug."""

    path: str
    name: str  # with its class
    first_line: int  # of `def`, from 1 on
    last_line: int
    place: tuple[str, int]  # as a trace names it: the file, and the first line with decorators
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
    found = []
    waiting: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    while waiting:
        prefix, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                waiting.append((f"{prefix}{child.name}.", child))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(_target(path, prefix, child, source))
            elif isinstance(child, ast.If | ast.Try | ast.With):
                waiting.append((prefix, child))
    return sorted(found, key=lambda target: target.first_line)


def is_inverted(mutant: Mutant, source: str) -> bool:
    """Whether one edit of `operators.py` undoes the bug."""
    spoiled = mutant.apply(source)
    added = spoiled.count("\n") - source.count("\n")
    back = edits(spoiled, mutant.target.first_line, mutant.target.last_line + added)
    return any(edit.apply(spoiled) == source for edit in back)


def singles(target: Target, source: str, rng: random.Random) -> Iterator[Mutant]:
    """Yield the function's single edits, kinds by turns."""
    by_kind: dict[str, list[Mutant]] = defaultdict(list)
    for edit in edits(source, target.first_line, target.last_line):
        piece = (edit.start, edit.end, edit.new)
        by_kind[edit.kind].append(Mutant(target=target, operators=(edit.kind,), pieces=(piece,)))
    yield from _by_turns(by_kind, rng)


def extras(target: Target, source: str, rng: random.Random) -> Iterator[Mutant]:
    """Yield the function's other bugs, kinds by turns."""
    by_kind = {kind: list(make(target, source)) for kind, make in EXTRA.items()}
    by_kind["combination"] = _pairs(list(singles(target, source, rng)), rng)
    yield from _by_turns(by_kind, rng)


def _by_turns(by_kind: dict[str, list[Mutant]], rng: random.Random) -> Iterator[Mutant]:
    kinds = sorted(by_kind)
    rng.shuffle(kinds)
    shuffled = [rng.sample(by_kind[kind], len(by_kind[kind])) for kind in kinds]
    for row in itertools.zip_longest(*shuffled):
        yield from (mutant for mutant in row if mutant is not None)


def _pairs(found: Sequence[Mutant], rng: random.Random, most: int = 12) -> list[Mutant]:
    """Return some pairs of single edits that lie apart."""
    pairs = []
    for _ in range(most if len(found) > 1 else 0):
        first, second = sorted(rng.sample(found, 2), key=lambda mutant: mutant.pieces)
        if first.pieces[0][1] < second.pieces[0][0]:
            operators = (*first.operators, *second.operators)
            pairs.append(Mutant(target=first.target, operators=operators, pieces=(*first.pieces, *second.pieces)))
    return pairs


def _branches(target: Target, source: str) -> Iterator[Mutant]:
    """Yield the function without one branch: an `if` that has no other one, or an `else` or `elif`."""
    lines = source.splitlines(keepends=True)
    for node in _statements(target, source):
        if not isinstance(node, ast.If):
            continue
        is_elif = lines[node.lineno - 1].lstrip().startswith("elif")
        if is_elif:
            yield from _without("branch", target, source, node.lineno, node.body[-1].end_lineno or 0)
        elif not node.orelse:
            yield from _without("branch", target, source, node.lineno, node.end_lineno or 0)
        above = node.orelse[0].lineno - 1 if node.orelse else 0
        if node.orelse and lines[above - 1].strip() == "else:":
            yield from _without("branch", target, source, above, node.end_lineno or 0)


def _dropped(target: Target, source: str) -> Iterator[Mutant]:
    """Yield the function without one statement that changes something."""
    for node in _statements(target, source):
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if is_call or isinstance(node, ast.AugAssign | ast.Continue | ast.Break):
            yield from _without("statement", target, source, node.lineno, node.end_lineno or 0)


def _defaults(target: Target, source: str) -> Iterator[Mutant]:
    """Yield the function with another default of a parameter."""
    starts = [0, *itertools.accumulate(len(line) for line in source.splitlines(keepends=True))]
    function = _function(target, source)
    for node in [*function.args.defaults, *(value for value in function.args.kw_defaults if value)]:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        try:
            value = ast.literal_eval(node)
        except ValueError:
            continue
        is_text = isinstance(value, str) and value
        wrong = '""' if is_text else WRONG_DEFAULTS.get(value) if value in (None, "", ()) else None
        if wrong is not None and source.isascii():
            yield Mutant(target=target, operators=("default",), pieces=((start, end, wrong),))


EXTRA = {"branch": _branches, "statement": _dropped, "default": _defaults}
"""Kinds without an inverse among the edits of `operators.py`."""


def _without(kind: str, target: Target, source: str, first: int, last: int) -> Iterator[Mutant]:
    """Yield the function without whole lines, `pass` in their place where a block would be empty."""
    lines = source.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip())]
    for new in ("", f"{indent}pass\n"):
        mutant = Mutant(target=target, operators=(kind,), pieces=((starts[first - 1], starts[last], new),))
        if compiles(mutant.apply(source)):
            yield mutant
            return


def compiles(source: str) -> bool:
    """Whether a text is Python."""
    try:
        compile(source, "<mutant>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _statements(target: Target, source: str) -> Iterator[ast.stmt]:
    """Yield the statements of a function that have their lines for themselves, but its docstring."""
    lines = source.splitlines()
    for node in ast.walk(_function(target, source)):
        if isinstance(node, ast.stmt) and node.lineno > target.first_line:
            before = lines[node.lineno - 1].encode()[: node.col_offset]
            after = lines[(node.end_lineno or 0) - 1].encode()[node.end_col_offset :]
            if not before.strip() and not after.split(b"#")[0].strip():
                yield node


def _function(target: Target, source: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno == target.first_line:
            return node
    raise ValueError(f"no function at line {target.first_line} of {target.path}")


def _target(path: str, prefix: str, node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> Target:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return Target(
        path=path,
        name=prefix + node.name,
        first_line=node.lineno,
        last_line=node.end_lineno or node.lineno,
        place=(path, first),
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
