"""Functions in few words, for models of a million parameters: names are numbered, and lines that can be edited are.

    i1 if v0 < v1 and v2 : L4

is a line at depth 1, which the failing test ran, and can be edited: its label is L4. A line that did not run (`skip`)
cannot have made the test fail and has none; `run` is behind one that ran and has no edit. A label comes behind its
line, since models read from left to right: there they know what it is the label of.

A function's own variables are `v0`, `v1`, ... in the order in which they appear, names of the language and its library
that many programs use stand as they are, others are `g0`, `g1`, ..., and a text is `str`. Comments, docstrings and
blank lines are left out.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from turnwise_envs.swe.lines import first_line
from turnwise_envs.swe.operators import MAX_NUMBER, Edit, edits
from turnwise_envs.swe.syntax import parse

MAX_VARIABLES, MAX_NAMES, MAX_DEPTH, MAX_EDITS, MAX_LINES = 20, 20, 8, 150, 32

KNOWN = tuple(
    """
self cls abs all any bool bytes callable chain count defaultdict deque dict divmod enumerate filter float frozenset
getattr hasattr hash id int isinstance issubclass islice iter key keys len list map max min next object ord chr partial
pow print property range repr reversed round set setattr slice sorted str strip sum super tuple type zip
append appendleft add clear copy count discard encode decode endswith extend find rfind format get group index insert
isalpha isdigit isspace items join ljust rjust lower upper lstrip rstrip match pop popleft popitem purge read readline
remove replace rsplit search setdefault sort split splitlines start startswith end sub title translate update values
write close function func args kwargs name value default data result iterable seq predicate
ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError NotImplementedError
NotImplemented OSError OverflowError RecursionError RuntimeError StopIteration SyntaxError TypeError UnboundLocalError
UnicodeError ValueError ZeroDivisionError NameError
""".split()  # noqa: SIM905
)
"""Names that stand as they are, beside keywords."""

MARKS = (
    "( ) [ ] { } , : . ; @ = -> + - * / // % ** & | ^ ~ << >> < > <= >= == != += -= *= /= //= %= **= |= &= ^= >>= <<= "
    ":= ... is_not not_in"
)
DONE = ("not", "neg", "plus1", "minus1", "bare", "swap", "return", "drop")
"""Changes that are no token of the language."""

UNSHOWN = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
TWO_WORDS = {"is not": "is_not", "not in": "not_in"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """One function of a file, and what of it ran."""

    path: str
    source: str  # of the whole file
    first_line: int  # of the file, from 1 on
    last_line: int
    ran: frozenset[int] = frozenset()  # lines of the file


@dataclass(kw_only=True, slots=True)
class Rendering:
    """What is shown, and what its numbers mean."""

    text: str = ""
    places: list[tuple[int, int]] = field(default_factory=list)  # of each line: which function, which line of its file
    labelled: list[tuple[int, int]] = field(default_factory=list)  # the places of the lines L1, L2, ...
    choices: list[tuple[int, Edit]] = field(default_factory=list)  # which function, edit
    words: list[str] = field(default_factory=list)  # of each choice: what it changes something into


def render(functions: Sequence[Function], max_lines: int = MAX_LINES) -> Rendering:
    """Return the functions as words, as many whole ones as fit into `max_lines`, at least the first one's lines."""
    found = Rendering()
    parts = []
    for which, function in enumerate(functions):
        words = _Words(function)
        lines = list(words.lines())
        if which and len(found.places) + len(lines) > max_lines:
            break
        by_line: dict[int, list[Edit]] = {}
        for edit in edits(function.source, function.first_line, function.last_line):
            by_line.setdefault(edit.line, []).append(edit)
        for line, text in lines[: max_lines - len(found.places)]:
            found.places.append((which, line))
            here = [(words.of_change(edit), edit) for edit in by_line.get(line, ()) if line in function.ran]
            here = [(word, edit) for word, edit in here if word][: MAX_EDITS - len(found.choices)]
            found.choices += [(which, edit) for _, edit in here]
            found.words += [word for word, _ in here]
            found.labelled += [(which, line)] if here else []
            parts.append(f"{text} {label(len(found.labelled)) if here else 'run' if line in function.ran else 'skip'}")
    found.text = " ".join(parts)
    return found


def label(number: int) -> str:
    """Return what the line of a number, from 1 on, is called."""
    return f"L{number}"


class _Words:
    """The words of one function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._tokens = _tokens(function)
        node = _node(function)
        self._documented = _docstrings(node)
        self._variables = {name: f"v{i}" for i, name in enumerate(_variables(node)[:MAX_VARIABLES])}
        self._names: dict[str, str] = {}

    def lines(self) -> Iterator[tuple[int, str]]:
        """Return each line's number in its file and its words."""
        by_line: dict[int, list[str]] = {}
        depth = 0
        for token in self._tokens:
            line = token.start[0] + self._function.first_line - 1
            if token.type == tokenize.INDENT:
                depth += 1
            elif token.type == tokenize.DEDENT:
                depth -= 1
            elif token.string.strip() and token.type not in UNSHOWN and line not in self._documented:
                by_line.setdefault(line, [f"i{min(depth, MAX_DEPTH)}"]).append(self._of(token))
        for line, words in sorted(by_line.items()):
            yield line, _joined(words)

    def of_change(self, edit: Edit) -> str:
        """Return the word for what an edit does; "" if there is none."""
        if edit.kind == "variable":
            return self._variables.get(edit.change, "")
        return TWO_WORDS.get(edit.change, edit.change)

    def _of(self, token: tokenize.TokenInfo) -> str:
        if token.type == tokenize.STRING:
            return "str"
        if token.type == tokenize.NUMBER:
            return token.string if token.string.isdigit() and int(token.string) <= MAX_NUMBER else "num"
        if token.type != tokenize.NAME or keyword.iskeyword(token.string):
            return token.string
        if token.string in self._variables:
            return self._variables[token.string]
        if token.string in KNOWN:
            return token.string
        number = self._names.setdefault(token.string, str(len(self._names)))
        return f"g{number}" if int(number) < MAX_NAMES else "g"


def _joined(words: Sequence[str]) -> str:
    text = " ".join(words)
    for two, one in TWO_WORDS.items():
        text = text.replace(f" {two} ", f" {one} ")
    return text


def _tokens(function: Function) -> list[tokenize.TokenInfo]:
    """Return the tokens of a function's lines, as far as they can be read."""
    lines = function.source.splitlines()[function.first_line - 1 : function.last_line]
    width = len(lines[0]) - len(lines[0].lstrip())
    text = "\n".join(line[width:] if not line[:width].strip() else line for line in lines) + "\n"
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            found.append(token)  # noqa: PERF402 - what came before an error is kept
    except (tokenize.TokenError, IndentationError):
        pass
    return found


def _node(function: Function) -> ast.AST:
    """Return the function that begins on the first line, or the whole module."""
    tree = parse(function.source)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return next((node for node in functions if first_line(node) == function.first_line), tree)


def _variables(node: ast.AST) -> list[str]:
    """Return all names that the function, or a function in it, gives a value, in order of appearance."""
    found: list[tuple[int, int, str]] = []
    for part in ast.walk(node):
        if isinstance(part, ast.arg):
            found.append((part.lineno, part.col_offset, part.arg))
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.append((part.lineno, part.col_offset, part.id))
    return list(dict.fromkeys(name for _, _, name in sorted(found)))


def _docstrings(node: ast.AST) -> Collection[int]:
    """Return the lines of texts that stand alone."""
    lines: set[int] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str):
            lines |= set(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return lines


def vocabulary() -> list[str]:
    """Return every word that `render` may write, and every change, each once."""
    words = [f"i{depth}" for depth in range(MAX_DEPTH + 1)] + [f"v{i}" for i in range(MAX_VARIABLES)]
    words += [f"g{i}" for i in range(MAX_NAMES)] + ["g", "str", "num", "run", "skip"]
    words += [*keyword.kwlist, *KNOWN, *MARKS.split(), *DONE, *map(str, range(MAX_NUMBER + 1))]
    words += [label(number) for number in range(1, MAX_LINES + 1)]
    return list(dict.fromkeys(words))
