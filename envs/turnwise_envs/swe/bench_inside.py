"""What runs in the sandbox for `bench.py`: one test of a repository, as it is and with each of many edits.

A request comes as JSON on standard input, the answers go as JSON to standard output. Every run is a fork of its own, so
that none sees another's doings; what the runs share is the compiled code of the files that no edit touches. Nothing of
Turnwise is imported here, and nobody outside believes more than words and numbers.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import importlib
import importlib.machinery
import inspect
import json
import os
import resource
import select
import signal
import sys
import time
import unittest
from types import CodeType, FrameType
from typing import Any

WORKSPACE = os.getcwd()
MAX_TRACED = 4000
FUTURE = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})
CODE: dict[str, CodeType] = {}  # by file
EDITED: dict[str, tuple[str, int]] = {}  # texts that stand in for files, and the place where they differ
TREES: dict[str, list[ast.stmt]] = {}  # the statements of a file as it is


class Loader(importlib.machinery.SourceFileLoader):
    """Loads files from what is compiled already, and edited ones from their text."""

    def get_code(self, fullname: str) -> CodeType | None:
        """Return a module's code."""
        path = self.get_filename(fullname)
        if path not in CODE:
            code = super().get_code(fullname)
            if code is not None:
                CODE[path] = code
        if path in EDITED:
            return recompiled(CODE.get(path), path, *EDITED[path])
        return CODE.get(path)


def main() -> None:
    """Answer one request."""
    told = json.load(sys.stdin)
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.dont_write_bytecode = True
    folder, told["module"] = module_of(told["test"])
    sys.path[:0] = [folder, os.path.normpath(os.path.join(WORKSPACE, told["root"])), WORKSPACE]
    sys.path.append(told["site"])
    files = importlib.machinery.FileFinder.path_hook((Loader, [".py"]))
    sys.path_hooks.insert(0, lambda path: files(path) if path.startswith(WORKSPACE) else refuse(path))
    sys.path_importer_cache.clear()
    warm(told["module"])
    for edited in {os.path.join(WORKSPACE, edit["path"]) for edit in told["edits"]}:
        with contextlib.suppress(OSError, ValueError, SyntaxError), open(edited, encoding="utf-8") as file:
            TREES[edited] = ast.parse(file.read()).body
    found = [forked(told, None, told["first_s"])]
    until = time.monotonic() + told["total_s"]
    found += [forked(told, edit, min(told["each_s"], until - time.monotonic())) for edit in told["edits"]]
    with open(answers, "w", encoding="utf-8") as file:
        json.dump(found, file)


def refuse(path: str) -> Any:
    """Leave a folder to the other hooks."""
    raise ImportError(path)


def recompiled(code: CodeType | None, path: str, text: str, place: int) -> CodeType:
    """Return the code of an edited file; only the function or class that holds the edit is compiled, if that will do.

    It will not do for what runs with the module itself: decorators, defaults, bases.
    """
    line = text.count("\n", 0, place) + 1
    around = [node for node in TREES.get(path, ()) if node.lineno <= line <= (node.end_lineno or 0)]
    if code is None or not around or not within(around[0], line):
        return compile(text, path, "exec", dont_inherit=True)
    begin, end = first_line(around[0]), around[0].end_lineno or 0
    part = "\n" * (begin - 1) + "".join(text.splitlines(keepends=True)[begin - 1 : end])
    alone = compile(part, path, "exec", code.co_flags & FUTURE, dont_inherit=True)
    new = {(const.co_name, const.co_firstlineno): const for const in alone.co_consts if isinstance(const, CodeType)}
    old = [(const.co_name, const.co_firstlineno) if isinstance(const, CodeType) else None for const in code.co_consts]
    if not new or not set(new) <= set(old):
        return compile(text, path, "exec", dont_inherit=True)
    consts = [const if key is None else new.get(key, const) for key, const in zip(old, code.co_consts, strict=True)]
    return code.replace(co_consts=tuple(consts))


def within(node: ast.stmt, line: int) -> bool:
    """Whether a line belongs to the body of a function or class."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and line >= first_line(node.body[0])


def first_line(node: ast.stmt) -> int:
    """Return where a statement begins, its decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def warm(test: str) -> None:
    """Import the test once, so that what it needs is compiled, and forget what came from the repository."""
    with contextlib.suppress(BaseException):
        importlib.import_module(test)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(WORKSPACE) and name != "__main__":
            del sys.modules[name]


def module_of(test: str) -> tuple[str, str]:
    """Return the folder from which a test file is imported and its name there, as pytest finds them."""
    folder, name = os.path.split(os.path.splitext(os.path.join(WORKSPACE, test))[0])
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        name = f"{package}.{name}"
    return folder, name


def forked(told: dict[str, Any], edit: dict[str, Any] | None, limit_s: float) -> dict[str, Any]:
    """Run the test in a process of its own and return what it says; a time-out where no time is left."""
    if limit_s <= 0:
        return {"outcome": "Timeout"}
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            cpu = int(limit_s) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
            said = tried(told, edit)
            with open(theirs, "w", encoding="utf-8") as file:
                json.dump(said, file)
        finally:
            os._exit(0)
    os.close(theirs)
    data = received(ours, limit_s)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ours)
    if data is None:
        return {"outcome": "Timeout"}
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError):
        return {"outcome": "Exit"}


def received(descriptor: int, limit_s: float) -> bytes | None:
    """Return what comes until the other end closes; None if that takes too long."""
    until = time.monotonic() + limit_s
    parts: list[bytes] = []
    while select.select([descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(descriptor, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def tried(told: dict[str, Any], edit: dict[str, Any] | None) -> dict[str, Any]:
    """Run the test on an edited repository, or on the one that there is, with a trace of the lines that ran."""
    traced: dict[tuple[str, int], None] = {}
    watched = ""
    try:
        if edit is not None:
            watched = os.path.join(WORKSPACE, edit["path"])
            with open(watched, encoding="utf-8") as file:
                text = file.read()
            EDITED[watched] = text[: edit["start"]] + edit["new"] + text[edit["end"] :], edit["start"]
        module = importlib.import_module(told["module"])
        if edit is None:
            sys.settrace(tracer(traced, os.path.join(WORKSPACE, told["test"])))
        run(module)
    except BaseException as error:  # noqa: BLE001 - whatever a test raises is its outcome
        sys.settrace(None)
        return {"outcome": name_of(error), "line": line_of(error, watched), "lines": list(traced)}
    sys.settrace(None)
    return {"outcome": "", "lines": list(traced)}


def run(module: Any) -> None:
    """Run the tests of a module, plain functions and unittest's; raises what the first failing one does."""
    for name, test in list(vars(module).items()):
        if name.startswith("test") and inspect.isfunction(test):
            test()
        elif isinstance(test, type) and issubclass(test, unittest.TestCase):
            for case in unittest.defaultTestLoader.loadTestsFromTestCase(test):
                case.debug()
        elif name.startswith("Test") and isinstance(test, type):
            run_class(test)


def run_class(kind: type) -> None:
    """Run the methods of a plain class of tests."""
    for name in [name for name in dir(kind) if name.startswith("test")]:
        case = kind()
        for before in ("setup_method", "setUp"):
            if hasattr(case, before):
                getattr(case, before)()
        getattr(case, name)()


def tracer(traced: dict[tuple[str, int], None], test: str) -> Any:
    """Return a trace function that writes down the repository's lines, each once, in the order of their last run."""

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            place = (frame.f_code.co_filename[len(WORKSPACE) + 1 :], frame.f_lineno)
            traced.pop(place, None)
            if len(traced) < MAX_TRACED:
                traced[place] = None
        return lines

    def calls(frame: FrameType, event: str, argument: Any) -> Any:
        path = frame.f_code.co_filename
        return lines if path.startswith(WORKSPACE) and path != test else None

    return calls


def name_of(error: BaseException) -> str:
    """Return what an error is called; pytest's own failure of a check is an AssertionError."""
    name = type(error).__name__
    return "AssertionError" if name == "Failed" else name[:40]


def line_of(error: BaseException, path: str) -> int:
    """Return the last line of a file that the error came through, 0 for none."""
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            line = step.tb_lineno
        step = step.tb_next
    return line


if __name__ == "__main__":
    main()
