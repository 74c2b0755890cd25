"""The lessons of the code model: functions of the standard library, one small edit away from what they were.

A lesson looks as an episode of the tool set `operators` does: functions in few words, how a test fails, what can be
tried, some attempts that failed, and then the attempt that undoes the edit. Which lines ran and what the test raised
is drawn at random, since nothing runs here. The short lessons of `repeating` and `listing` have no
code: they teach to copy, and to name what is listed.
"""

import ast
import sysconfig
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from code_model.tokenizer import word_list
from tiny_model.tokenizer import END
from turnwise_envs.swe.bench import Run
from turnwise_envs.swe.compact import DONE, MAX_LINES, MAX_VARIABLES, TWO_WORDS, Function, Rendering, label, render
from turnwise_envs.swe.operators import ALIKE, MAX_NUMBER, Edit, edits
from turnwise_envs.swe.repairs import Attempt, Repairs

FOLDERS = ("", "asyncio", "collections", "concurrent/futures", "email", "html", "http", "importlib", "json", "logging",
           "multiprocessing", "unittest", "urllib", "xml/dom", "xml/etree", "xmlrpc", "wsgiref")  # fmt: skip
LEAST_LINES = 3
HELD_EVERY = 16  # files, of which one is held out
ERRORS = ("AssertionError",) * 6 + ("TypeError", "IndexError", "ValueError", "KeyError", "AttributeError", "NameError")
MAX_FUNCTIONS, MAX_TRIED, MAX_LISTED = 5, 5, 60
CHANGES = tuple(
    dict.fromkeys(
        [
            *(TWO_WORDS.get(word, word) for group in ALIKE for word in group),
            *DONE,
            *(f"v{number}" for number in range(MAX_VARIABLES)),
            *map(str, range(MAX_NUMBER + 1)),
        ]
    )
)
"""Every word for a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A dialogue up to an attempt, and the attempt."""

    told: str
    said: str


@cache
def library() -> tuple[tuple[Function, ...], ...]:
    """Read the standard library: the functions of each file that has some, in the order of the files' names."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (path for folder in FOLDERS for path in sorted((root / folder).glob("*.py")))
    found = (tuple(_functions(path)) for path in files)
    return tuple(functions for functions in found if functions)


def _functions(path: Path) -> Iterator[Function]:
    """Yield a file's functions, each as a file of its own."""
    source = path.read_text(encoding="utf-8", errors="replace")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            own = lines[node.lineno - 1 : node.end_lineno]
            text = textwrap.dedent("\n".join(own)) + "\n"
            if LEAST_LINES <= len(own) <= MAX_LINES and text.startswith("def "):
                name = f"{path.name}/{node.name}"
                yield Function(path=name, source=text, first_line=1, last_line=len(own))


def undoing(rng: np.random.Generator, held: bool = False) -> Lesson | None:
    """Draw functions and an edit of them, and return a lesson that undoes it; None where what was drawn has none.

    Lessons that are `held` out are of files of their own.
    """
    files, weights = part(held)
    among = files[int(rng.choice(len(files), p=weights))]
    chosen = [among[int(i)] for i in rng.permutation(len(among))[: int(rng.integers(1, MAX_FUNCTIONS + 1))]]
    which = int(rng.integers(min(2, len(chosen))))
    possible = _by_kind(chosen[which])
    if not possible:
        return None
    bugs = possible[list(possible)[int(rng.integers(len(possible)))]]
    bug = bugs[int(rng.integers(len(bugs)))]
    whole = chosen[which].source
    chosen[which] = replace(chosen[which], source=bug.apply(whole))
    functions = tuple(_ran(one, bug.line if i == which else one.first_line, rng) for i, one in enumerate(chosen))
    known = _known(render(functions), functions, rng)
    right = [attempt for attempt, edits in known.attempts.items() if any(known.edited(at)[1] == whole for at in edits)]
    return _lesson(known, right[0], rng) if right else None


@cache
def part(held: bool) -> tuple[list[tuple[Function, ...]], np.ndarray]:
    """Return the files that are held out, or the others, and how likely each is to be drawn."""
    files = [functions for place, functions in enumerate(library()) if (place % HELD_EVERY == 0) == held]
    sizes = np.sqrt([len(functions) for functions in files])
    return files, sizes / sizes.sum()


@cache
def _by_kind(function: Function) -> dict[str, list[Edit]]:
    found: dict[str, list[Edit]] = {}
    for edit in edits(function.source, function.first_line, function.last_line):
        found.setdefault(edit.kind, []).append(edit)
    return found


def _ran(function: Function, needed: int, rng: np.random.Generator) -> Function:
    """Return the function with lines that ran: all but those of a block somewhere, for instance of a branch."""
    lines = set(range(function.first_line, function.last_line + 1))
    begin = int(rng.integers(function.first_line + 1, function.last_line + 2))
    skipped = set(range(begin, begin + int(rng.integers(0, len(lines)))))
    return replace(function, ran=frozenset(lines - (skipped if needed not in skipped else set())))


def _known(shown: Rendering, functions: tuple[Function, ...], rng: np.random.Generator) -> Repairs:
    places = range(len(shown.labelled))
    late = {place: (shown.labelled[place][0], -place + 3 * rng.random()) for place in places}
    runs = [_run([line for _, line in shown.labelled], rng) for _ in shown.choices]
    order = tuple(sorted(places, key=late.__getitem__))
    return Repairs(shown=shown, functions=functions, order=order, first=_run([0], rng), runs=runs)


def _run(lines: Sequence[int], rng: np.random.Generator) -> Run:
    line = lines[int(rng.integers(len(lines)))] if rng.random() < 0.5 else 0
    return Run(error=ERRORS[int(rng.integers(len(ERRORS)))], line=line)


def _lesson(known: Repairs, right: Attempt, rng: np.random.Generator) -> Lesson:
    wrong = [attempt for attempt in known.attempts if attempt != right]
    tried = [wrong[int(i)] for i in rng.permutation(len(wrong))[: int(rng.integers(MAX_TRIED + 1))]]
    told = f"<|user|> {known.shown.text} {known.told(())}{END}"
    for number, attempt in enumerate(tried, start=1):
        told += f"{said(attempt)}<|tool|> {known.told(tried[:number])}{END}"
    return Lesson(told=told, said=said(right))


def said(attempt: Attempt) -> str:
    """Write an attempt as the assistant does."""
    return f"<|assistant|> fix {attempt[0]} | {attempt[1]}{END}"


def repeating(rng: np.random.Generator, most: int = 8) -> Lesson:
    """Draw some words, to be said once more; the first of them is given."""
    words = word_list()
    text = "".join(f" {words[int(i)]}" for i in rng.integers(len(words), size=int(rng.integers(most // 3, most + 1))))
    return Lesson(told=text, said=text)


def listing(rng: np.random.Generator) -> Lesson:
    """Draw a list of attempts without any code, and return a lesson that names one of them."""
    lines = [label(int(number) + 1) for number in rng.permutation(MAX_LINES)[: int(rng.integers(1, 12))]]
    words = [CHANGES[int(i)] for i in rng.permutation(len(CHANGES))[: int(rng.integers(1, 16))]]
    share = 0.2 + 0.6 * rng.random()
    among = [(word, line) for line in lines for word in words if rng.random() < share] or [(words[0], lines[0])]
    among = among[:MAX_LISTED]
    told = " ".join(f"{word} {line}" for word, line in among)
    return Lesson(
        told=f"<|tool|> fails {_run([0], rng).error} ; {told}{END}", said=said(among[int(rng.integers(len(among)))])
    )
