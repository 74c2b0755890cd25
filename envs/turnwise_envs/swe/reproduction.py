"""Cuts one failing test out of its file, for the agent to run: what the file imports and defines for it, and no more.

The assertions before the one that fails, and all that follows it, are left out. Whether what is left still fails with
the bug, and passes without it, is tried by whoever asks; `whole` is the second attempt, with the test as it stands.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from turnwise_envs.swe.lines import first_line, lines_of
from turnwise_envs.swe.syntax import parse
from turnwise_envs.swe.trial import TestRun

NAME = "test_issue.py"
ASSERTS = ("assert", "fail")


def place(test: str, conftest: Sequence[str], source: str) -> str:
    """Return where the reproduction goes: beside the test's file if that leans on its folder, else to the top."""
    folder = test.split("::")[0].rpartition("/")[0]
    leans = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(parse(source)))
    beside = any(path.rpartition("/")[0] == folder for path in conftest)
    return f"{folder}/{NAME}" if folder and (leans or beside) else NAME


def command(path: str) -> list[str]:
    """Return the command that runs it, whatever the repository configures."""
    return ["python3", "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", path]


def cut(source: str, test: str, run: TestRun) -> Iterator[str]:
    """Yield the test as a file of its own: reduced to the failing assertion, then whole; nothing if it is not found."""
    tree = parse(source)
    _, *names = test.split("[")[0].split("::")
    found = _found(tree, names)
    if found is None:
        return
    lines = source.splitlines()
    file = test.split("::")[0]
    numbers = [line for path, line in run.frames if path == file]
    inside = [line for line in numbers if found[-1].lineno <= line <= (found[-1].end_lineno or 0)]
    for dropped in dict.fromkeys([_dropped(found[-1], inside[0]) if inside else (), ()]):
        yield _text(tree, found, lines, frozenset(dropped))


def failing_source(source: str, test: str, run: TestRun) -> str:
    """Return the statement of the test that failed, in one line; empty where it is not known."""
    file = test.split("::")[0]
    numbers = [line for path, line in run.frames if path == file]
    statements = [
        node
        for node in ast.walk(parse(source))
        if isinstance(node, ast.stmt)
        and not isinstance(node, ast.FunctionDef | ast.ClassDef)
        and numbers
        and node.lineno <= numbers[-1] <= (node.end_lineno or 0)
    ]
    if not statements:
        return ""
    shortest = min(statements, key=lambda node: (node.end_lineno or 0) - node.lineno)
    return ast.get_source_segment(source, shortest) or ""


def _found(tree: ast.Module, names: Sequence[str]) -> list[ast.stmt] | None:
    """Return the class, if there is one, and the function of a test."""
    body: Sequence[ast.stmt] = tree.body
    found: list[ast.stmt] = []
    for name in names:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        node = next((node for node in body if isinstance(node, kinds) and node.name == name), None)
        if node is None:
            return None
        found.append(node)
        body = node.body if isinstance(node, ast.ClassDef) else []
    return found if found and isinstance(found[-1], ast.FunctionDef) else None


def _dropped(function: ast.stmt, line: int) -> tuple[int, ...]:
    """Return the lines of a test without which the assertion at a line still fails, with luck."""
    assert isinstance(function, ast.FunctionDef)
    dropped: list[int] = []
    for node in function.body:
        last = node.end_lineno or node.lineno
        if node.lineno > line or (last < line and _is_assertion(node)):
            dropped += range(node.lineno, last + 1)
    return tuple(dropped)


def _is_assertion(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assert):
        return True
    call = node.value if isinstance(node, ast.Expr) else None
    name = call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""
    return name.startswith(ASSERTS)


def _text(tree: ast.Module, found: Sequence[ast.stmt], lines: Sequence[str], dropped: frozenset[int]) -> str:
    """Return the file: what the test needs of the module, and the test, in their order."""
    parts: list[tuple[int, list[str]]] = []
    wanted = _used(found[-1], dropped)
    if len(found) > 1:
        head = found[0]
        assert isinstance(head, ast.ClassDef)
        kept = [node for node in head.body if node is found[-1] or not _is_test(node)]
        wanted |= set().union(*(_used(node, dropped) for node in kept), *(_used(base) for base in head.bases))
        wanted |= {name for node in head.decorator_list for name in _used(node)}
        parts.append((first_line(head), [line for number, line in _class(head, kept, lines) if number not in dropped]))
    else:
        parts.append((first_line(found[0]), _lines(found[0], lines, dropped)))
    parts += [(first_line(node), _lines(node, lines, frozenset())) for node in _needed(tree, wanted, found[0])]
    texts = ["\n".join(part) for _, part in sorted(parts, key=lambda part: part[0])]
    return "\n\n".join(texts) + "\n"


def _needed(tree: ast.Module, wanted: set[str], test: ast.stmt) -> list[ast.stmt]:
    """Return the statements of a module that bind what is wanted, and what these need."""
    needed: list[ast.stmt] = []
    waiting = True
    while waiting:
        waiting = False
        for node in tree.body:
            if node is test or any(node is other for other in needed):
                continue
            if _binds(node) & (wanted | {"*", "annotations"}):
                needed.append(node)
                wanted |= _used(node)
                waiting = True
    return needed


def _binds(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    names = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in inner.names}
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
            names.add(inner.name)
    return names


def _used(node: ast.AST, dropped: frozenset[int] = frozenset()) -> set[str]:
    """Return the names that some code needs, its parameters among them: they are fixtures."""
    names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and inner.lineno not in dropped}
    return names | {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _class(head: ast.ClassDef, kept: Sequence[ast.stmt], lines: Sequence[str]) -> list[tuple[int, str]]:
    """Return the lines of a class with a part of its body, and their numbers."""
    numbers = list(range(first_line(head), head.body[0].lineno))
    numbers = [number for number in numbers if number < first_line(head.body[0])]
    for node in kept:
        numbers += lines_of(node)
    return [(number, lines[number - 1]) for number in numbers]


def _lines(node: ast.stmt, lines: Sequence[str], dropped: frozenset[int]) -> list[str]:
    return [lines[number - 1] for number in lines_of(node) if number not in dropped]
