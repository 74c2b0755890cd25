"""A bench: one failing test of a repository in a sandbox, run on the repository as it is and with each of many edits.

The tool set `operators` asks it. All edits of a task are tried in one command, each in a fork, since a run of pytest
for each would cost a hundred times more; what the edits lead to is remembered by the task. Answers come out of the
process that runs the repository's code: they are what the agent is shown, never a reward.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnwise.errors import EnvError
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise_envs.swe.operators import Edit
from turnwise_envs.swe.syntax import parse

INSIDE = Path(__file__).with_name("bench_inside.py")
FIRST_S, EACH_S, TOTAL_S = 10.0, 1.0, 40.0
MAX_ANSWER = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """How the test ended."""

    error: str  # the exception's name, "Timeout" or "Exit"; "" for a test that passed
    line: int = 0  # of the edited file, the last that the error came through; 0: none

    @property
    def passed(self) -> bool:
        """Whether the test passed."""
        return not self.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the bench found."""

    first: Run  # without an edit
    lines: tuple[tuple[str, int], ...]  # (path, line) that ran then, each once, in the order of their last run
    edited: tuple[Run, ...]  # for each edit


def survey(
    box: BlockingSandbox, *, folder: str, root: str, site: str, test: str, edits: Sequence[tuple[str, Edit]] = ()
) -> Survey:
    """Run a test file in the box's workspace, and once with each edit of a path; EnvError if the bench says nothing."""
    wanted = [{"path": path, "start": edit.start, "end": edit.end, "new": edit.new} for path, edit in edits]
    told = {"root": root, "site": site, "test": test, "edits": wanted, "first_s": FIRST_S, "each_s": EACH_S}
    ran = box.exec(
        ["python3", "-I", "-S", "-c", INSIDE.read_text(encoding="utf-8")],
        cwd=folder,
        stdin=json.dumps({**told, "total_s": TOTAL_S}).encode(),
        deadline_s=FIRST_S + TOTAL_S + 5.0,
        output_bytes=MAX_ANSWER,
    )
    try:
        found = json.loads(ran.stdout)
        runs = [_run(one) for one in found]
        lines = tuple((str(path), int(line)) for path, line in found[0].get("lines", ()))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        said = ran.stderr[-200:].decode(errors="replace") or f"exit status {ran.code}"
        raise EnvError(f"the bench gave no answer ({' '.join(said.split())})") from error
    if len(runs) != 1 + len(edits):
        raise EnvError(f"the bench gave {len(runs)} answers for {1 + len(edits)} runs")
    return Survey(first=runs[0], lines=lines, edited=tuple(runs[1:]))


def can_run(test: str) -> bool:
    """Whether the bench can run this test file: it has tests, which ask for none of pytest's fixtures."""
    try:
        tree = parse(test)
    except (SyntaxError, ValueError):
        return False
    bound = [(node, 1) for kind in tree.body if isinstance(kind, ast.ClassDef) for node in kind.body]
    functions = [*((node, 0) for node in tree.body), *bound]
    tests = [
        (node.args, num_own)
        for node, num_own in functions
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    ]
    return bool(tests) and all(_num_needed(args) <= num_own for args, num_own in tests)


def _num_needed(args: ast.arguments) -> int:
    """Return how many arguments a function must be given."""
    named = sum(default is None for default in args.kw_defaults)
    return len(args.posonlyargs) + len(args.args) - len(args.defaults) + named


def _run(said: Any) -> Run:
    return Run(error=str(said["outcome"])[:40], line=int(said.get("line", 0)))
