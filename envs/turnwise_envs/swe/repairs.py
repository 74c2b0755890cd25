"""The repairs of a task that the tool `fix` knows: every small edit of what its failing test runs, and where it leads.

Where the bug is, is not told: shown are the functions of the repository that the failing test runs, from the one whose
lines ran last, shortly before the failure, to earlier ones. An *attempt* is a change on a line: all edits there that
do it, for instance put `v1` where another variable stands.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from turnwise.errors import EnvError
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise_envs.swe.bench import INSIDE, Run, Survey, survey
from turnwise_envs.swe.compact import Function, Rendering, label, render
from turnwise_envs.swe.lines import first_line
from turnwise_envs.swe.memory import Memory
from turnwise_envs.swe.operators import Edit
from turnwise_envs.swe.syntax import parse

Attempt = tuple[str, str]
"""The word for a change, and the label of a line."""


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """What is shown of a task, and what each edit leads to."""

    shown: Rendering
    functions: tuple[Function, ...]
    order: tuple[int, ...]  # places in `shown.labelled`, from the line that ran last to the one that ran first
    first: Run  # of the failing test, before any edit
    runs: Sequence[Run]  # of `shown.choices`

    @cached_property
    def attempts(self) -> Mapping[Attempt, Sequence[int]]:
        """Every attempt and its edits, by their places in `runs`; from the line that ran last to the first."""
        found: dict[str, dict[Attempt, list[int]]] = {label(place + 1): {} for place in self.order}
        for at, ((which, edit), word) in enumerate(zip(self.shown.choices, self.shown.words, strict=True)):
            line = self._labels[self.functions[which].path, edit.line]
            found[line].setdefault((word, line), []).append(at)
        return {attempt: edits for of_line in found.values() for attempt, edits in of_line.items()}

    def passing(self, attempt: Attempt) -> int | None:
        """Return the first edit of an attempt that makes the test pass."""
        return next((at for at in self.attempts[attempt] if self.runs[at].passed), None)

    def told(self, tried: Sequence[Attempt]) -> str:
        """Return in few words how the test ends with the last attempt's last edit, and what is left to be tried."""
        if not tried:
            return f"fails {self.first.error} ; {self.left(tried)}"
        at = self.attempts[tried[-1]][-1]
        line = self._labels.get((self.functions[self.shown.choices[at][0]].path, self.runs[at].line))
        return f"fails {self.runs[at].error}{f' at {line}' if line else ''} ; {self.left(tried)}"

    def left(self, tried: Sequence[Attempt]) -> str:
        """Return what is left to be tried, each change with its line."""
        return " ".join(f"{change} {line}" for change, line in self.attempts if (change, line) not in tried)

    def edited(self, at: int) -> tuple[str, str]:
        """Return path and new text of the file that an edit changes."""
        which, edit = self.shown.choices[at]
        return self.functions[which].path, edit.apply(self.functions[which].source)

    @cached_property
    def _labels(self) -> Mapping[tuple[str, int], str]:
        """The label of each labelled line, by its path and its number in the file."""
        places = enumerate(self.shown.labelled, start=1)
        return {(self.functions[which].path, line): label(number) for number, (which, line) in places}


def repairs(
    name: str,
    files: Mapping[str, str],
    test: str,
    remembered: Memory,
    look: Callable[[list[tuple[str, Edit]]], Survey],
) -> Repairs:
    """Return a task's repairs; `files` are the texts of its Python files by path, `look` runs `test` on edits.

    EnvError for a test that does not fail, or fails before it runs a line that could be edited.
    """
    contents = "\0".join(
        [INSIDE.read_text(encoding="utf-8"), *(p for path in sorted(files) for p in (path, files[path]))]
    )
    said = remembered.of(f"{name}-first", contents, lambda: _plain(look([])))
    first, lines = Run(**said["first"]), [(str(path), int(line)) for path, line in said["lines"]]
    if first.passed:
        raise EnvError(f"{name}: its test {test} passes before anything was changed")
    functions = tuple(_functions(files, lines[::-1]))
    shown = render(functions)
    if not shown.choices:
        raise EnvError(f"{name}: its test {test} fails ({first.error}) before it runs a line that could be edited")
    edits = [(functions[which].path, edit) for which, edit in shown.choices]
    contents += "".join(f"\0{path} {edit.start} {edit.end} {edit.new}" for path, edit in edits)
    said = remembered.of(f"{name}-edits", contents, lambda: _plain(look(edits)))
    runs = tuple(Run(**run) for run in said["edited"])
    order = _order([(functions[which].path, line) for which, line in shown.labelled], lines[::-1])
    return Repairs(shown=shown, functions=functions, order=order, first=first, runs=runs)


def look_in(
    box: Callable[[], BlockingSandbox], folder: str, root: str, site: str, test: str
) -> Callable[[list[tuple[str, Edit]]], Survey]:
    """Return what runs a test in a sandbox, which is asked for when it is needed."""
    return lambda edits: survey(box(), folder=folder, root=root, site=site, test=test, edits=edits)


def _plain(found: Survey) -> dict[str, object]:
    runs = [{"error": run.error, "line": run.line} for run in (found.first, *found.edited)]
    return {"first": runs[0], "lines": [list(place) for place in found.lines], "edited": runs[1:]}


def _order(labelled: Sequence[tuple[str, int]], ran: Sequence[tuple[str, int]]) -> tuple[int, ...]:
    """Return the lines by the time when they ran; heads of functions, which have no time, come last."""
    times = {place: time for time, place in enumerate(ran)}
    return tuple(sorted(range(len(labelled)), key=lambda at: times.get(labelled[at], len(ran))))


def _functions(files: Mapping[str, str], lines: Iterable[tuple[str, int]]) -> Iterable[Function]:
    """Yield the functions that hold these lines, each once, in the order of the lines."""
    ran: dict[str, set[int]] = {}
    order: dict[tuple[str, int, int], None] = {}
    spans = {path: _spans(files[path]) for path in {path for path, _ in lines} if path in files}
    for path, line in lines:
        around = [span for span in spans.get(path, ()) if span[0] <= line <= span[2]]
        if around:
            begin, named, end = around[0]
            order[path, begin, end] = None
            ran.setdefault(path, set()).update((line, *range(begin, named + 1)))
    for path, begin, end in order:
        yield Function(path=path, source=files[path], first_line=begin, last_line=end, ran=frozenset(ran[path]))


def _spans(source: str) -> list[tuple[int, int, int]]:
    """Return where each function begins, is named and ends; of functions within functions, the outermost."""
    found: list[tuple[int, int, int]] = []
    waiting: list[ast.AST] = [parse(source)]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((first_line(node), node.lineno, node.end_lineno or node.lineno))
            else:
                waiting.append(node)
    return sorted(found)
