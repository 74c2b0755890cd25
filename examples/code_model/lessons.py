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

MAX_LINES = 24
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


@cache
def sources(seed: int = 0, most: int = 10**9) -> list[Source]:
    """Return functions of the standard library, 3 to 24 lines long, in an order of their own."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    files = [file for file in files if not {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(file.parts)]
    found = []
    for number in np.random.default_rng(seed).permutation(len(files)):
        found += list(_functions(files[number]))
        if len(found) >= most:
            break
    return found[:most]


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


def draw(source: Source, rng: np.random.Generator) -> Lesson | None:
    """Return a lesson with a bug drawn for this function; None where the bug cannot be undone from what is shown."""
    by_kind: dict[str, list[Edit]] = defaultdict(list)
    for edit in source.found:
        by_kind[edit.kind].append(edit)
    kind = sorted(by_kind)[rng.integers(len(by_kind))]
    bug = by_kind[kind][rng.integers(len(by_kind[kind]))]
    mutant = bug.apply(source.text)
    num_lines = mutant.count("\n")
    ran = _ran(mutant, bug.line, rng)
    shown = render([Function(path="", source=mutant, first_line=1, last_line=num_lines, ran=ran)], MAX_LINES)
    right = _undoing(shown, source.text, mutant, bug)
    return None if right is None else _episode(shown, right, rng)


def _undoing(shown: Rendering, original: str, mutant: str, bug: Edit) -> tuple[int, str, int] | None:
    """Return number, change and place of the edit that gives the original text again."""
    for (number, change), places in shown.choices.items():
        for place, (_, edit) in enumerate(places, start=1):
            if edit.line == bug.line and edit.apply(mutant) == original:
                return number, change, place
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


def _episode(shown: Rendering, right: tuple[int, str, int], rng: np.random.Generator) -> Lesson:
    error = str(rng.choice(ERRORS, p=ERROR_SHARES))
    pieces = [(f"<|user|> {shown.text} fails {error}{END}", 0.0)]
    wrong = [(*name, i) for name, places in shown.choices.items() for i in range(1, len(places) + 1)]
    wrong = [choice for choice in wrong if choice != right]
    num_wrong = min(int(rng.integers(0, 5)), len(wrong))
    for i in rng.choice(len(wrong), num_wrong, replace=False) if num_wrong else []:
        pieces += said(*wrong[i], weight=0.15)
        pieces.append((f"<|tool|> fails {error if rng.random() < 0.6 else rng.choice(ERRORS)}{END}", 0.0))
    return Lesson(pieces + said(*right, weight=1.0))


def said(number: int, change: str, place: int, weight: float) -> list[tuple[str, float]]:
    """Return an action as it is sampled."""
    last = f" | {place}" if place > 1 else ""
    return [("<|assistant|>", 0.0), (f" fix {number} | {change}{last}{END}", weight)]


def lessons(found: Sequence[Source], count: int, seed: int) -> Iterator[Lesson]:
    """Draw so many lessons."""
    rng = np.random.default_rng(seed)
    while count:
        lesson = draw(found[rng.integers(len(found))], rng)
        if lesson is not None:
            count -= 1
            yield lesson
