"""The program that tries many variants of one repository, run inside a sandbox: a process forked for each.

Alone in a file, with Python's standard library and pytest. It reads one JSON object from standard input and writes one
JSON object a variant, a line each, to standard output. pytest is imported once; a variant's process has some
files changed, runs the tests that it is given and ends, and the files are put back. Whatever hangs or eats memory is
killed.

Nothing here is trusted for a verdict: what is kept is proven afterwards by the grader.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.util
import inspect
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

MAX_MESSAGE, MAX_FRAMES = 600, 12
PLUGINS_OFF = ("cacheprovider", "faulthandler", "junitxml", "pastebin", "unraisableexception", "threadexception")
OFTEN = ("unittest.mock", "doctest", "decimal", "fractions", "random", "string", "statistics", "concurrent.futures")
CHUNK = 65536
MAX_CALLS, MAX_CALL, MAX_ITEMS, MAX_SPELL_DEPTH = 24, 400, 50, 6
NOTHING = {"$nothing": None}
"""Stands for a value that is not plain."""

WALL = 10.0
"""Seconds of the wall for one of the processor: a busy machine changes nothing."""

Result = dict[str, Any]
Reached = tuple[int, str, int]
"""How deep in the package a function was called, and the function by which the test came in: file and first line."""


def main() -> None:
    """Try every variant and say what became of each."""
    told = json.loads(sys.stdin.buffer.read())
    sys.path[:0] = [told["site"], os.path.abspath(told["root"])]
    import pytest  # once, for all that are forked
    from _pytest.config import default_plugins

    for name in (*(f"_pytest.{plugin}" for plugin in default_plugins), *OFTEN):
        importlib.import_module(name)
    gc.freeze()
    Seen.pytest_runtest_call = pytest.hookimpl(wrapper=True)(Seen.pytest_runtest_call)  # type: ignore[method-assign]
    for variant in told["variants"]:
        with changed(variant["texts"]):
            result = apart(functools.partial(tried, told, variant), variant["limit_s"], told["memory_mb"])
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


@contextlib.contextmanager
def changed(texts: dict[str, str]) -> Iterator[None]:
    """Hold other texts in some files, which may be new, and no bytecode of either."""
    before = {path: content(path) for path in texts}
    try:
        for path, text in texts.items():
            put(path, text.encode())
        yield
    finally:
        for path, data in before.items():
            put(path, data)


def content(path: str) -> bytes | None:
    """Return what is in a file, None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def put(path: str, data: bytes | None) -> None:
    """Make a file hold this, None: take it away; its bytecode goes, since that is known by time and size."""
    for old in (path, importlib.util.cache_from_source(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)
    if data is not None:
        with open(path, "wb") as file:
            file.write(data)


def apart(work: Callable[[], Result], limit_s: float, memory_mb: int) -> Result:
    """Do the work in a process of its own, in `limit_s` seconds of the processor.

    `hung` where its time ran out, `died` where it ended without a result.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.close(read)
            resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (max(1, int(limit_s)),) * 2)
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            with open(write, "wb") as file:
                file.write(json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    answer = received(read, time.monotonic() + WALL * limit_s)
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if answer is None:
        return {"hung": True}
    return json.loads(answer) if answer else {"died": True}


def received(descriptor: int, until: float) -> bytes | None:
    """Return all that is written until the end, None if that does not come in time."""
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            part = os.read(descriptor, CHUNK)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None


def tried(told: Result, variant: Result) -> Result:
    """Run the tests of one variant."""
    import pytest

    sys.dont_write_bytecode = not told.get("warm", False)
    seen = Seen(variant.get("tests"), variant["test_s"], told)
    options = ["-c", "/dev/null", "--rootdir", ".", "-q", "--tb=short", "--no-header"]
    options += ["--continue-on-collection-errors", *(f"-pno:{name}" for name in PLUGINS_OFF)]
    with seen.importing():
        code = pytest.main([*options, "-o", "console_output_style=classic", *variant["files"]], plugins=[seen])
    return {"code": int(code), "tests": seen.tests, "imported": sorted(seen.imported), "calls": seen.recorded()}


class Seen:
    """A plug-in of pytest: what became of each test, which functions it ran, with which arguments."""

    def __init__(self, wanted: list[str] | None, test_s: float, told: Result) -> None:
        """`wanted`: the tests to run, all where None; `test_s`: seconds of the processor that one may take."""
        self.wanted = None if wanted is None else set(wanted)
        self.test_s, self.is_traced = test_s, told.get("trace", False)
        self.tests: dict[str, Result] = {}
        self.imported: dict[tuple[str, int], Reached] = {}
        self.ran: dict[tuple[str, int], Reached] = {}
        self.took_s = 0.0
        self.calls: dict[tuple[str, int], dict[str, None]] = {(path, line): {} for path, line in told["record"]}
        self.not_ours = set(told["tests"])
        self.here = os.getcwd() + "/"

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Note which functions run outside tests."""
        if self.is_traced:
            sys.setprofile(self._noting(self.imported))
        try:
            yield
        finally:
            sys.setprofile(None)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what is not wanted."""
        if self.wanted is not None:
            items[:] = [item for item in items if item.nodeid in self.wanted]

    def pytest_runtest_protocol(self, item: Any) -> None:
        """Begin a test."""
        self.tests[item.nodeid] = {"outcome": "none", "seconds": 0.0}
        self.ran, self.took_s = {}, 0.0
        if self.is_traced:
            sys.setprofile(self._noting(self.ran))

    def pytest_runtest_call(self) -> Iterator[Any]:
        """Limit the time of a test itself; a wrapper, see `main`."""
        signal.signal(signal.SIGPROF, self._out_of_time)
        signal.setitimer(signal.ITIMER_PROF, self.test_s)
        began = time.process_time()
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self.took_s = time.process_time() - began

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Note how a part of a test ended."""
        test = self.tests[item.nodeid]
        test["seconds"] = round(self.took_s, 4)
        if call.excinfo is not None and test["outcome"] in ("none", "passed"):
            test["outcome"] = "skipped" if call.excinfo.typename == "Skipped" else "failed"
            test.update(self._failure(item, call))
        elif call.when == "call" and test["outcome"] == "none":
            test["outcome"] = "passed"
        if call.when == "teardown" and self.is_traced:
            test["ran"] = [[*place, *reached] for place, reached in sorted(self.ran.items())]
            sys.setprofile(self._noting(self.imported))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note what pytest makes of it: expected failures and subtests."""
        test = self.tests.get(report.nodeid)
        if test is not None and report.failed:
            test["outcome"] = "failed"
        elif test is not None and report.outcome == "skipped":
            test["outcome"] = "skipped"

    def _failure(self, item: Any, call: Any) -> Result:
        frames = [[str(entry.path).removeprefix(self.here), entry.lineno + 1] for entry in call.excinfo.traceback]
        inner = [frame for frame in frames if not frame[0].startswith(("/", "<"))]
        found = {"type": call.excinfo.typename, "phase": call.when, "frames": inner[-MAX_FRAMES:]}
        try:
            text, message = str(item.repr_failure(call.excinfo)), str(call.excinfo.value)
        except Exception:  # noqa: BLE001 - values under test may have any `__repr__`
            return found
        lines = [line[4:] for line in text.splitlines() if line.startswith("E   ")]
        return {**found, "message": message[:MAX_MESSAGE], "explained": [line[:MAX_MESSAGE] for line in lines[:12]]}

    def _noting(self, found: dict[tuple[str, int], Reached]) -> Callable[[Any, str, Any], None]:
        here = self.here

        def note(frame: Any, event: str, _: Any) -> None:
            if event == "call":
                code = frame.f_code
                if code.co_filename.startswith(here):
                    place = (code.co_filename[len(here) :], code.co_firstlineno)
                    if place not in found:
                        found[place] = self._reached(frame)
                    if place in self.calls:
                        self._record(self.calls[place], frame)

        return note

    def _reached(self, frame: Any) -> Reached:
        """Return how many functions of the package stand between a frame and the test, and the outermost of them."""
        depth, outer = 0, ("", 0)
        while frame is not None:
            path = frame.f_code.co_filename
            if path.startswith(self.here):
                inner = path[len(self.here) :]
                if inner in self.not_ours:
                    break
                depth, outer = depth + 1, (inner, frame.f_code.co_firstlineno)
            frame = frame.f_back
        return (depth, *outer)

    def _record(self, known: dict[str, None], frame: Any) -> None:
        """Remember the arguments of a call, if they are plain values."""
        if len(known) < MAX_CALLS:
            try:
                spelled = json.dumps(arguments(frame.f_code, frame.f_locals))
            except Exception:  # noqa: BLE001 - values under test may raise anything
                return
            if len(spelled) <= MAX_CALL:
                known[spelled] = None

    def recorded(self) -> list[Any]:
        """Return the calls that were recorded: file, line, and arguments as JSON."""
        return [[path, line, list(known)] for (path, line), known in self.calls.items()]

    def _out_of_time(self, *_: object) -> None:
        raise TimeoutError("the test ran out of time")


def arguments(code: Any, given: dict[str, Any]) -> list[Any]:
    """Return the arguments of a call, positional ones and named ones; what cannot be spelled is left to its default."""
    names = code.co_varnames
    num, num_named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    spelled = {name: spell(given[name], 0) for name in names[:num_named] if name in given}
    positional = [spelled.get(name, NOTHING) for name in names[:num]]
    known = positional.index(NOTHING) if NOTHING in positional else num
    named = {name: spelled[name] for name in names[known:num_named] if spelled.get(name, NOTHING) is not NOTHING}
    rest = num_named
    if code.co_flags & inspect.CO_VARARGS:
        more = spell(given[names[rest]], 0)
        if more is NOTHING or (known < num and given[names[rest]]):
            raise ValueError("an argument that is no plain value")
        positional = [*positional[:known], *more["$tuple"]]
        known, rest = len(positional), rest + 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        named |= {name: spell(value, 0) for name, value in given[names[rest]].items()}
    if NOTHING in named.values():
        raise ValueError("an argument that is no plain value")
    return [positional[:known], named]


def spell(value: Any, depth: int) -> Any:
    """Return a value as JSON with the marks of `probes.py`, NOTHING for one that is not plain."""
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and value - value == 0):
        return value
    if kind is bytes:
        return {"$bytes": value.hex()}
    if depth < MAX_SPELL_DEPTH and kind in (list, tuple, set, frozenset, dict) and len(value) <= MAX_ITEMS:
        items = [item for pair in value.items() for item in pair] if kind is dict else list(value)
        spelled = [spell(item, depth + 1) for item in items]
        if NOTHING in spelled:
            return NOTHING
        if kind in (set, frozenset):
            spelled.sort(key=json.dumps)
        if kind is dict:
            return {"$dict": [list(pair) for pair in zip(spelled[::2], spelled[1::2], strict=True)]}
        return spelled if kind is list else {f"${kind.__name__}": spelled}
    return NOTHING


if __name__ == "__main__":
    main()
