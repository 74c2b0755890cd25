"""Runs tests in a child process and says what became of them: the one of the two that runs no code of the agent's.

It is spoken to by one JSON object on its standard input and answers with one on its standard output, both of which no
other process inside can open: it cannot be dumped, so its descriptors and memory are closed to processes of the same
user. The child (`tests.py`) reports over a pipe, line by line, behind a nonce. A child that hangs or dies costs the
test file that it was at; the others get a new child.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from typing import IO, Any

PR_SET_DUMPABLE = 4
MAX_LINE = 65536
MAX_TAIL = 16384  # bytes of the tests' own output that are kept, the last ones
MAX_ODD = 5  # oddities that are named
MAX_CHILDREN = 4
BEFORE_THE_END = ("setup", "call")
ORDINARY = (0, 1, 5)  # pytest's exit statuses: all passed, some failed, no test found


def main() -> None:
    """Answer the one request."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    request = json.loads(sys.stdin.buffer.read())
    record = Record(request["ids"])
    until = time.monotonic() + request["deadline_s"]
    for number in range(MAX_CHILDREN):
        left = record.unfinished()
        if not left or (number and time.monotonic() >= until):
            break
        Child(request, left, record).run(until)
    answer = record.answer()
    answer["nonce"] = request["nonce"]
    os.write(2, bytes(record.tail))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def variables(own_python: str) -> dict[str, str]:
    """Return the child's variables: nothing of Python's or pytest's but a fixed seed for hashes, and no plug-ins.

    With an image's own Python, that comes first on the path, and its plug-ins are there.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    kept["PYTHONHASHSEED"] = "0"
    if own_python:
        return {**kept, "PATH": f"{os.path.dirname(own_python)}:{kept.get('PATH', os.defpath)}"}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


class Record:
    """What is known of each test, by its number."""

    def __init__(self, ids: list[str]) -> None:
        """Take the tests' names."""
        self.ids = ids
        self.numbers = {name: number for number, name in enumerate(ids)}
        self.phases: dict[
            int, list[tuple[str, str, bool]]
        ] = {}  # by number: when, outcome, whether it was expected to fail
        self.seconds: dict[int, float] = {}
        self.files: dict[str, str] = {}  # path -> outcome of its collection, where that was no pass
        self.given_up: set[str] = set()  # files that a child died or hung at
        self.tail = bytearray()
        self.odd: list[str] = []
        self.exits: list[tuple[int, bool, bool]] = []  # of each child: exit status, is complete, was late

    def unfinished(self) -> list[int]:
        """Return the numbers of the tests that a child is still to be started for."""
        if self.exits and (self.exits[-1][1] or not self.given_up):
            return []
        done = {number for number, phases in self.phases.items() if phases and phases[-1][0] == "teardown"}
        lost = self.given_up | set(self.files)
        return [i for i, name in enumerate(self.ids) if i not in done and name.split("::")[0] not in lost]

    def note(self, text: str) -> None:
        """Remember an oddity."""
        if len(self.odd) < MAX_ODD:
            self.odd.append(text[:200])

    def answer(self) -> dict[str, Any]:
        """Return what is told outside."""
        outcomes = [self.outcome(number, name) for number, name in enumerate(self.ids)]
        seconds = [round(self.seconds.get(number, 0.0), 4) for number in range(len(self.ids))]
        return {"outcomes": outcomes, "seconds": seconds, "odd": self.odd, "exits": self.exits}

    def outcome(self, number: int, name: str) -> str:
        """Return a test's outcome from its phases, or from its file's collection."""
        phases = self.phases.get(number, [])
        if not phases:
            return self.collected(name)
        if phases[-1][0] != "teardown":
            return "missing"
        outcomes = [outcome for _, outcome, _ in phases]
        if any(expected for _, _, expected in phases):
            return "xfailed" if "failed" not in outcomes and "skipped" in outcomes else "failed"
        if "failed" in outcomes:
            return "failed" if any(p[0] == "call" and p[1] == "failed" for p in phases) else "error"
        if "skipped" in outcomes:
            return "skipped"
        return "passed" if [when for when, _, _ in phases].count("call") else "missing"

    def collected(self, name: str) -> str:
        """Return the outcome of a test that did not run: that of the file or class around it."""
        parts = name.split("::")
        for size in range(len(parts), 0, -1):
            found = self.files.get("::".join(parts[:size]))
            if found:
                return "error" if found == "failed" else found
        return "missing"


class Child:
    """One process of pytest, and what it reports."""

    def __init__(self, request: dict[str, Any], numbers: list[int], record: Record) -> None:
        """Start it."""
        self.record, self.limit_s = record, request["test_s"]
        self.nonce = secrets.token_hex(16).encode()
        self.at: str | None = None  # the name that it is at
        self.is_complete = False
        mine, theirs = os.pipe()
        files = list(dict.fromkeys(record.ids[number].split("::")[0] for number in numbers))
        own = request["own_python"]
        told = {key: request[key] for key in ("packages", "root", "imports", "conftest", "own_python")}
        told.update(ids=[record.ids[n] for n in numbers], files=files, report=theirs, nonce=self.nonce.decode())
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tests.py")
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [own, "-s", "-B", program] if own else [sys.executable, "-s", "-S", "-B", program],
            env=variables(own),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)
        self.reports = mine
        told_it, said = self.process.stdin, self.process.stdout
        assert told_it is not None
        assert said is not None
        self.output: IO[bytes] = said
        with contextlib.suppress(OSError):
            told_it.write(json.dumps(told).encode())
            told_it.close()

    def run(self, until: float) -> None:
        """Take its reports until it ends, is silent for too long, or the time is up."""
        was_late = not self.listen(until)
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self.record.exits.append((status, self.is_complete, was_late))
        if not self.is_complete and self.at is not None:
            self.record.given_up.add(self.at.split("::")[0])
        os.close(self.reports)
        self.output.close()

    def listen(self, until: float) -> bool:
        """Return whether it ended in time."""
        waiting = selectors.DefaultSelector()
        waiting.register(self.reports, selectors.EVENT_READ)
        waiting.register(self.output, selectors.EVENT_READ)
        rest, silent_until = b"", until  # the limit is for tests and files, not for the start of pytest
        while True:
            if self.process.poll() is not None:
                self.last(rest)
                return True
            for key, _ in waiting.select(min(max(silent_until - time.monotonic(), 0.0), 0.05)):
                data = os.read(key.fd, MAX_LINE)
                if not data:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is self.output:
                    self.keep(data)
                else:
                    rest = self.lines(rest + data)
                    silent_until = min(until, time.monotonic() + self.limit_s) if self.at is not None else until
                    if self.is_complete:  # the last line of all: what comes behind it is no report
                        self.ending(rest)
                        return True
            if time.monotonic() >= silent_until:
                return False

    def ending(self, rest: bytes) -> None:
        """Give it a moment to end of its own, and look whether it says more than it should."""
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            return
        self.last(rest)

    def last(self, rest: bytes) -> None:
        """Take what is left in the pipes."""
        for source in (self.reports, self.output.fileno()):
            os.set_blocking(source, False)
            for _ in range(1024):
                try:
                    data = os.read(source, MAX_LINE)
                except OSError:
                    break
                if not data:
                    break
                if source == self.reports:
                    rest = self.lines(rest + data)
                else:
                    self.keep(data)
        if rest:
            self.record.note("half a line of a report")

    def keep(self, data: bytes) -> None:
        """Keep the end of the output."""
        self.record.tail += data
        del self.record.tail[:-MAX_TAIL]

    def lines(self, data: bytes) -> bytes:
        """Take whole lines and return the rest."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self.line(line)
        if len(rest) > MAX_LINE:
            self.record.note("a report too long")
            rest = b""
        return rest

    def line(self, line: bytes) -> None:
        """Take one message, or remember that it is none."""
        nonce, _, text = line.partition(b" ")
        if nonce != self.nonce:
            self.record.note("a report without the nonce")
            return
        if self.is_complete:
            self.record.note("a report after the end")
            return
        try:
            self.message(*json.loads(text))
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            self.record.note("a report that is none")

    def message(self, kind: str, *values: Any) -> None:
        """Take a message of `tests.py`."""
        if kind == "done":
            self.is_complete = True
            if values[0] not in ORDINARY:
                self.record.note(f"pytest ended with status {int(values[0])}")
        elif kind == "at":
            self.at = str(values[0])
        elif kind == "file":
            self.record.files[str(values[0])] = str(values[1])
        elif kind == "test":
            self.test(*values)
        else:
            raise ValueError(kind)

    def test(self, name: str, when: str, outcome: str, is_expected: bool, seconds: float) -> None:
        """Take the outcome of a test's phase; phases come in their order, each test once."""
        number = self.record.numbers[name]
        self.at = name
        phases = self.record.phases.setdefault(number, [])
        before = phases[-1][0] if phases else None
        follows: dict[str, tuple[str | None, ...]] = {
            "setup": (None,),
            "call": BEFORE_THE_END,
            "teardown": BEFORE_THE_END,
        }
        if before not in follows[when] or outcome not in ("passed", "failed", "skipped"):
            self.record.note("phases of a test out of their order")
            phases.append((when, "failed", False))
            return
        phases.append((when, outcome, bool(is_expected)))
        if isinstance(seconds, float) and 0 <= seconds < 1e6:
            self.record.seconds[number] = self.record.seconds.get(number, 0.0) + seconds


if __name__ == "__main__":
    main()
