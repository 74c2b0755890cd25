"""What the code model reads: functions of Python's own library with one small bug, and the edit that undoes it.

A lesson is an episode as the tool set `operators` of `turnwise/SWE-v0` plays it: the function as compact words, some
edits that do not help, then the one that does. Bugs are drawn, not tested: whether a test would find one is not known.
"""

import ast
import sysconfig
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tiny_model.tokenizer import END
from turnwise_envs.swe.compact import Function, Rendering, render
from turnwise_envs.swe.operators import Edit, edits

MAX_LINES = 24  # of a function
SHOWN_LINES = 32
WRONG_WEIGHT = 0.1  # of the tokens of edits that do not help, in the loss
ERRORS = ("AssertionError", "TypeError", "ValueError", "IndexError", "KeyError", "AttributeError", "StopIteration")
ERROR_SHARES = (0.6, 0.15, 0.05, 0.06, 0.04, 0.06, 0.04)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One episode as pieces of text."""

    pieces: list[tuple[str, float]]  # text, weight of its tokens in the loss


@dataclass(frozen=True, slots=True)
class Source:
    """One function on its own."""

    text: str
    found: list[Edit]

    @property
    def num_lines(self) -> int:
        """Lines of its text."""
        return self.text.count("\n")


@cache
def sources(seed: int = 0, most: int = 10**9) -> list[list[Source]]:
    """Return functions of the standard library, 3 to 24 lines long, file by file, the files in an order drawn."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    files = [file for file in files if not {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(file.parts)]
    found: list[list[Source]] = []
    for number in np.random.default_rng(seed).permutation(len(files)):
        found += [functions] if (functions := list(_functions(files[number]))) else []
        if sum(map(len, found)) >= most:
            break
    return found


def _functions(file: Path) -> Iterator[Source]:
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and 3 <= (node.end_lineno or 0) - node.lineno <= MAX_LINES:
            lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
            source = textwrap.dedent("\n".join(lines)) + "\n"
            try:
                found = edits(source, 1, len(lines))
            except (SyntaxError, ValueError):
                continue
            if len(found) >= 8:
                yield Source(source, found)


def draw(file: Sequence[Source], num_functions: int, rng: np.random.Generator) -> Lesson | None:
    """Return a lesson with a bug drawn for a function of this file, and up to so many functions shown.

    None where the bug cannot be undone from what is shown.
    """
    which = int(rng.integers(len(file)))
    source, bug = file[which], _bug(file[which], rng)
    mutant = bug.apply(source.text)
    shown = [_shown(mutant, bug.line, rng)]
    for i in rng.permutation(len(file)):
        if i != which and len(shown) < num_functions and file[i].num_lines + sum(map(_length, shown)) <= SHOWN_LINES:
            shown.append(_shown(file[i].text, 0, rng))
    shown = [shown[i] for i in rng.permutation(len(shown))]
    place = next(i for i, function in enumerate(shown) if function.source == mutant)
    rendering = render(shown, SHOWN_LINES)
    right = _undoing(rendering, place, source.text, mutant, bug)
    return None if right is None else _episode(rendering, right, rng)


def _bug(source: Source, rng: np.random.Generator) -> Edit:
    by_kind: dict[str, list[Edit]] = defaultdict(list)
    for edit in source.found:
        by_kind[edit.kind].append(edit)
    kind = sorted(by_kind)[rng.integers(len(by_kind))]
    return by_kind[kind][rng.integers(len(by_kind[kind]))]


def _shown(text: str, line: int, rng: np.random.Generator) -> Function:
    return Function(path="", source=text, first_line=1, last_line=text.count("\n"), ran=_ran(text, line, rng))


def _length(function: Function) -> int:
    return function.last_line


def _undoing(shown: Rendering, which: int, original: str, mutant: str, bug: Edit) -> int | None:
    """Return the number of the edit that gives the original text again."""
    for number, (function, edit) in enumerate(shown.choices, start=1):
        if function == which and edit.line == bug.line and edit.apply(mutant) == original:
            return number
    return None


def _ran(source: str, line: int, rng: np.random.Generator) -> frozenset[int]:
    """Return lines that a test may have run: all, or all but some blocks that do not hold `line`."""
    lines = set(range(1, source.count("\n") + 1))
    for node in ast.walk(ast.parse(source)):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and block and isinstance(node, ast.If | ast.Try | ast.For | ast.While):
                held = set(range(block[0].lineno, (block[-1].end_lineno or 0) + 1))
                if line not in held and rng.random() < 0.35:
                    lines -= held
    return frozenset(lines)


def _episode(shown: Rendering, right: int, rng: np.random.Generator) -> Lesson:
    error = str(rng.choice(ERRORS, p=ERROR_SHARES))
    pieces = [(f"<|user|> {shown.text} {_failing(error, right, shown, rng)}{END}", 0.0)]
    wrong = [number for number in range(1, len(shown.choices) + 1) if number != right]
    num_wrong = min(int(rng.integers(0, 5)), len(wrong))
    for number in rng.choice(wrong, num_wrong, replace=False) if num_wrong else []:
        pieces += said(int(number), weight=WRONG_WEIGHT)
        again = error if rng.random() < 0.6 else str(rng.choice(ERRORS))
        pieces.append((f"<|tool|> {_failing(again, int(number), shown, rng)}{END}", 0.0))
    return Lesson(pieces + said(right, weight=1.0))


def _failing(error: str, number: int, shown: Rendering, rng: np.random.Generator) -> str:
    """Return how a test may fail: in its own assertion, at the line of an edit, or at another line."""
    if error == "AssertionError" or rng.random() < 0.25:
        return f"fails {error}"
    if rng.random() < 0.5:
        number = int(rng.integers(1, len(shown.choices) + 1))
    which, edit = shown.choices[number - 1]
    return f"fails {error} at {shown.number_at(which, edit.line)}"


def said(number: int, weight: float) -> list[tuple[str, float]]:
    """Return an action as it is sampled."""
    return [("<|assistant|>", 0.0), (f" fix {number}{END}", weight)]


def lessons(found: Sequence[Sequence[Source]], count: int, seed: int, num_functions: int) -> Iterator[Lesson]:
    """Draw so many lessons, functions alike likely, with up to so many functions each."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(file) for file in found], dtype=float)
    while count:
        file = found[rng.choice(len(found), p=sizes / sizes.sum())]
        lesson = draw(file, int(rng.integers(1, num_functions + 1)), rng)
        if lesson is not None:
            count -= 1
            yield lesson
