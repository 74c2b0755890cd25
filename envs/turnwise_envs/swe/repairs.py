"""The repairs of a task that the tool `fix` knows: every small edit of what its failing test runs, and where it leads.

Where the bug is, is not told: shown are the functions of the repository that the failing test runs, from the one whose
lines ran last, shortly before the failure, to earlier ones.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from turnwise.errors import EnvError
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise_envs.swe.bench import INSIDE, Run, Survey, survey
from turnwise_envs.swe.compact import Function, Rendering, render
from turnwise_envs.swe.lines import first_line
from turnwise_envs.swe.memory import Memory
from turnwise_envs.swe.operators import Edit
from turnwise_envs.swe.syntax import parse

MAX_LINES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Repairs:
    """What is shown of a task, and what each edit leads to."""

    shown: Rendering
    functions: tuple[Function, ...]
    first: Run  # of the failing test, before any edit
    runs: Sequence[Run]  # by number - 1

    @property
    def text(self) -> str:
        """What the agent is shown at first."""
        return f"{self.shown.text} fails {self.first.error}"

    def told(self, number: int) -> str:
        """Return in a few words how the test ends with an edit; a line is named by the number of its first edit."""
        run = self.runs[number - 1]
        if run.passed:
            return "passes"
        path, _ = self.edited(number)
        places = [(self.functions[which].path, edit.line) for which, edit in self.shown.choices]
        at = f" at {places.index((path, run.line)) + 1}" if (path, run.line) in places else ""
        return f"fails {run.error}{at}"

    def edited(self, number: int) -> tuple[str, str]:
        """Return path and new text of the file that an edit changes."""
        which, edit = self.shown.choices[number - 1]
        return self.functions[which].path, edit.apply(self.functions[which].source)


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
    shown = render(functions, MAX_LINES)
    if not shown.choices:
        raise EnvError(f"{name}: its test {test} fails ({first.error}) before it runs a line that could be edited")
    edits = [(functions[which].path, edit) for which, edit in shown.choices]
    contents += "".join(f"\0{path} {edit.start} {edit.end} {edit.new}" for path, edit in edits)
    said = remembered.of(f"{name}-edits", contents, lambda: _plain(look(edits)))
    return Repairs(shown=shown, functions=functions, first=first, runs=tuple(Run(**run) for run in said["edited"]))


def look_in(
    box: Callable[[], BlockingSandbox], folder: str, root: str, site: str, test: str
) -> Callable[[list[tuple[str, Edit]]], Survey]:
    """Return what runs a test in a sandbox, which is asked for when it is needed."""
    return lambda edits: survey(box(), folder=folder, root=root, site=site, test=test, edits=edits)


def _plain(found: Survey) -> dict[str, object]:
    runs = [{"error": run.error, "line": run.line} for run in (found.first, *found.edited)]
    return {"first": runs[0], "lines": [list(place) for place in found.lines], "edited": runs[1:]}


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
