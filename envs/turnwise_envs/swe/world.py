"""`SweWorld`: what every set of tools for repositories shares: tasks, workspace, grading, rewards, demonstrations.

A set of tools is a subclass (`full.py`, `bash.py`) that changes the workspace through `self.workspace`, calls `changed`
after a turn that may have, and `hand_in` to submit. Channels:

- `outcome`: 1 or 0, at the submission. An episode that tampered has none: `hand_in` raises `Tampered`, so that it fails
  as the policy's own doing and no reward of it is left.
- `test/NAME`: 1 or 0 for every test that decides, at the submission.
- `progress`: 1 for a turn after which the reproduction passes for the first time, and no more in an episode.
- `format`: -1 for an action that cannot be carried out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from turnwise.env import TurnEnv
from turnwise.errors import InvalidAction, PolicyError, UserError
from turnwise.sandbox.tiers import strongest
from turnwise_envs.arguments import SANDBOX, probability, sandbox_policy, whole
from turnwise_envs.swe.changes import apply, digest, verify
from turnwise_envs.swe.grade import Verdict, grade_blocking
from turnwise_envs.swe.imaged import within
from turnwise_envs.swe.logged import PROGRAMS, program_of
from turnwise_envs.swe.repository import Case, case_of
from turnwise_envs.swe.reproduce import reproduces
from turnwise_envs.swe.runner import SPARE_S
from turnwise_envs.swe.task import FIELD, SweTask, load_tasks
from turnwise_envs.swe.testkit import kit_folder
from turnwise_envs.swe.workspace import Unreadable, Workspace

LIMITS: dict[str, Any] = {"memory_mb": 1024, "disk_mb": 256, "output_kb": 1024, "wall_s": 120.0}
"""Where a sandbox of this environment's differs from a policy's defaults."""

MAX_NAMED = 5
"""Failing tests that guidance names."""

SPLITS = ("train", "eval")


class Tampered(PolicyError):  # noqa: N818 - what happened, as in `failures/`
    """The agent meddled with its grading. The episode has no reward, neither 0 nor 1, and is not tried again."""


class SweWorld(TurnEnv):
    """Base of the sets of tools; `max_turns` counts every action."""

    def __init__(
        self,
        *,
        tasks: str | Sequence[str] | None = None,
        eval_tasks: str | Sequence[str] | None = None,
        max_turns: int = 40,
        sandbox: Mapping[str, Any] | None = None,
        deadline_s: float = 40.0,
        command_s: float = 30.0,
        shown_bytes: int = 8000,
        progress: bool = True,
        mistakes: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        """Read the task files; UserError for a value that does not fit, or a task that cannot be run here.

        `tasks`, `eval_tasks`: files of tasks for training and held out. `max_turns`: the limit on actions. `sandbox`:
        keys of the policy. `deadline_s`: seconds for the tests of a grading, where a task has none of its own.
        `command_s`: seconds for a command. `shown_bytes`: of an observation. `progress`: whether the reproduction
        is tried after changes. `mistakes`: probability that a demonstrated action is a bad one.
        """
        super().__init__(render_mode)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self.policy = sandbox_policy(sandbox, LIMITS)
        self.deadline_s = self._seconds("deadline_s", deadline_s)
        self.command_s = self._seconds("command_s", command_s)
        self.shown_bytes = whole("shown_bytes", shown_bytes, 200, 500_000)
        self._mistakes = probability("mistakes", mistakes)
        self._pays_progress = bool(progress)
        self._tasks = {"train": read_tasks("tasks", tasks), "eval": read_tasks("eval_tasks", eval_tasks)}
        if not any(self._tasks.values()):
            remedy = "give the path of a file of tasks, such as `turnwise swe build` writes"
            raise UserError(FIELD, tasks, "no task file", remedy)
        self._check_tiers()
        kit_folder()
        self._workspace: Workspace | None = None
        self._has_progressed, self._tried = False, ""
        self.verdict: Verdict | None = None
        """The last grading, for tests and people; no agent sees it."""

    def _check_tiers(self) -> None:
        """Find the sandboxes for tasks with archives, and those for tasks in images, before anything starts."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        imaged = next((task.image for task in tasks if task.archive_path is None), None)
        needed = [within(self.policy, imaged)] if imaged else []
        needed += [self.policy] if any(task.archive_path for task in tasks) else []
        for policy in needed:
            policy.check(SANDBOX)
            self.sandbox_tier = strongest(policy, SANDBOX).value

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        return len(self._tasks.get(split, ()))

    def begin(self, options: Mapping[str, Any]) -> str:
        """Look up the task of `task_seed`; its sandbox is opened at its first use."""
        self._end()
        split = options.get("split") or ("train" if self._tasks["train"] else "eval")
        tasks = self._tasks.get(split, ())
        if not tasks:
            raise UserError("env.kwargs", split, "no tasks of this split", "give tasks and eval_tasks")
        case = case_of(tasks[self.task_seed % len(tasks)], self.policy, SANDBOX)
        self.sandbox_tier = strongest(case.within(self.policy), SANDBOX).value
        self._workspace = Workspace(case, self.policy, SANDBOX)
        self._has_progressed, self._tried = False, ""
        self.verdict = None
        return self.opening()

    def opening(self) -> str:
        """Return what the agent is told at first: the issue, and how to see it."""
        recipe = self.case.task.recipe
        command = " ".join(recipe.reproduction) if recipe is not None else ""
        return self.case.task.problem_statement.rstrip() + (f"\n\nReproduce it with: {command}" if command else "")

    @property
    def workspace(self) -> Workspace:
        """The episode's sandbox."""
        if self._workspace is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._workspace

    @property
    def case(self) -> Case:
        """The episode's task and its files."""
        return self.workspace.case

    def changed(self) -> None:
        """Give the reward for progress, after a turn that may have changed the repository."""
        recipe = self.case.task.recipe
        if not self._pays_progress or self._has_progressed or recipe is None or not recipe.reproduction:
            return
        edits = self.workspace.edits()
        if isinstance(edits, Unreadable) or not edits or digest(edits) == self._tried:
            return
        self._tried = digest(edits)
        if not reproduces(self.case, verify(self.case, edits).taken, self.policy, deadline_s=self.command_s):
            self._has_progressed = True
            self.reward("progress", 1.0)

    def hand_in(self) -> str:
        """Grade what has changed and end the episode; Tampered for one that meddled with its grading."""
        edits = self.workspace.edits()
        if isinstance(edits, Unreadable):
            self._pay(0.0, dict.fromkeys(self.case.task.tests, False))
            return f"submitted, but the workspace cannot be read ({edits.why})"
        self.workspace.close()
        verdict = self.verdict = grade_blocking(
            self.case, edits, self.policy, deadline_s=self.deadline_s, test_s=None, field=SANDBOX
        )
        if verdict.outcome is None:
            raise Tampered(f"{self.case.task.instance_id}: {'; '.join(verdict.tampering)}")
        self._pay(verdict.outcome, verdict.tests)
        return f"submitted: {sum(verdict.tests.values())} of {len(verdict.tests)} tests pass"

    def _pay(self, outcome: float, tests: Mapping[str, bool]) -> None:
        self.reward("outcome", outcome)
        for name, passed in tests.items():
            self.reward(f"test/{name}", float(passed))
        self.finish()

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed action on the channel `format`."""
        self.reward("format", -1.0)

    def state_key(self) -> str | None:
        """Return a digest of the task and of what has changed in its repository."""
        if self._workspace is None:
            return None
        edits = self.workspace.edits()
        changes = "unreadable" if isinstance(edits, Unreadable) else digest(edits)
        return f"{self.case.task.instance_id}/{changes}"

    def gold(self) -> dict[str, Any]:
        """Return the names of the tests that decide, the issue and the gold patch."""
        task = self.case.task
        return {
            "tests": list(task.tests),
            "question": task.problem_statement,
            "answer": task.patch,
            "instance_id": task.instance_id,
        }

    def guide(self) -> str | None:
        """Return what a failed attempt lacked (Agent-RLVR): where to look, which tests fail and what they said.

        The hidden tests are named, not shown; None for a task whose recipe does not say where the bug is.
        """
        recipe, tests = self.case.task.recipe, self.verdict.tests if self.verdict is not None else {}
        if recipe is None or not recipe.functions:
            return None
        places = [f"{place.name} in {place.path}" for place in recipe.functions]
        plan = f"Plan: read {' and '.join(places)}, find the line that explains the failure, change it, try it, submit."
        if self.verdict is None:
            return f"{plan} The last attempt submitted nothing."
        failed = [name for name, passed in tests.items() if not passed]
        return (
            f"{plan} After the last attempt {len(failed)} of {len(tests)} tests failed: {', '.join(failed[:MAX_NAMED])}"
        )

    def files(self) -> dict[str, bytes]:
        """Return the repository's files as they are now, what cannot be read left as it was."""
        edits = self.workspace.edits()
        return apply(self.case.workspace, {} if isinstance(edits, Unreadable) else edits)

    def value_of(self, path: str, after: bytes) -> float | None:
        """Return the value of an edit that makes a file this: 1 if fewer lines than now differ from the gold patch's.

        0 for any other; None for a task without a gold patch.
        """
        if not self.case.task.patch:
            return None
        wanted, now = self.case.gold.get(path), self.files().get(path)
        if wanted is None or now is None:
            return 0.0
        return float(distance(after, wanted) < distance(now, wanted))

    def value_of_handing_in(self) -> float | None:
        """Return 1 if the program is what the gold patch makes it, 0 if nothing has changed, else None."""
        if not self.case.task.patch:
            return None
        edits = self.workspace.edits()
        if isinstance(edits, Unreadable):
            return 0.0
        program = [path for path in edits if not self.case.is_test(path)]
        now, gold = self.files(), self.case.gold
        if all(now.get(path) == gold.get(path) for path in {*now, *gold} if not self.case.is_test(path)):
            return 1.0
        return None if program else 0.0

    def mends(self) -> list[tuple[str, str, str]]:
        """Return replacements towards the gold patch: (path, old text, new text), each old text there once."""
        now, found = self.files(), []
        for path, wanted in self.case.gold.items():
            if now.get(path) != wanted:
                found += replacements(path, now.get(path, b""), wanted)
        return found

    def slips(self, rng: np.random.Generator) -> bool:
        """Whether the demonstrator makes a mistake now."""
        return bool(rng.random() < self._mistakes)

    def close(self) -> None:
        """End the sandbox; the environment may be reset again."""
        self._end()

    def _end(self) -> None:
        if self._workspace is not None:
            self._workspace.close()

    def _seconds(self, name: str, value: Any) -> float:
        most = self.policy.wall_s - SPARE_S
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            problem = f"not seconds from 0 to {most:g}, {SPARE_S:g} less than {SANDBOX}.wall_s"
            raise UserError(f"env.kwargs.{name}", value, problem, f"change it, or {SANDBOX}.wall_s")
        return float(value)


def distance(data: bytes, other: bytes) -> int:
    """Return in how many lines two files differ."""
    matcher = difflib.SequenceMatcher(None, data.split(b"\n"), other.split(b"\n"), autojunk=False)
    changes = (code for code in matcher.get_opcodes() if code[0] != "equal")
    return sum(max(high - low, new_high - new_low) for _, low, high, new_low, new_high in changes)


def replacements(path: str, now: bytes, wanted: bytes) -> list[tuple[str, str, str]]:
    """Return how the first lines that differ become the wanted ones, with lines around them until they are unique."""
    old, new = now.decode(errors="replace").split("\n"), wanted.decode(errors="replace").split("\n")
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    code = next((code for code in codes if code[0] != "equal"), None)
    if code is None:
        return []
    _, low, high, new_low, new_high = code
    text = "\n".join(old)
    for more in range(len(old) + 1):
        before, after = min(more, low), min(more, len(old) - high)
        piece = "\n".join(old[low - before : high + after])
        if piece and text.count(piece) == 1:
            return [(path, piece, "\n".join(new[new_low - before : new_high + after]))]
    return []


def read_tasks(name: str, given: str | Sequence[str] | None) -> tuple[SweTask, ...]:
    """Return the tasks of a file or several; UserError for what is none, or a task that cannot be run here."""
    field = f"env.kwargs.{name}"
    paths = [given] if isinstance(given, str | Path) else list(given or ())
    if not all(isinstance(path, str | Path) for path in paths):
        raise UserError(field, given, "no path", "give the path of a task file, or a list of them")
    return tuple(task for path in paths for task in _read(str(path), _stamp(str(path), field), field))


@lru_cache(maxsize=32)
def _read(path: str, stamp: tuple[int, int], field: str) -> tuple[SweTask, ...]:
    tasks = load_tasks(path, field)
    for task in tasks:
        check_runs(task, field)
    return tasks


def _stamp(path: str, field: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UserError(field, path, f"cannot be read ({error.strerror})", "give the path of a task file") from error
    return status.st_mtime_ns, status.st_size


def check_runs(task: SweTask, field: str) -> None:
    """Refuse a task that no sandbox here can run."""
    archive = task.archive_path
    if archive is None and task.image is None:
        problem = 'has neither an archive ("turnwise.archive") nor an image ("image")'
        raise UserError(field, task.where, problem, "name the image that holds its repository in /testbed")
    if archive is not None and not archive.is_file():
        raise UserError(field, task.where, f"its archive {archive} is not there", "put it beside the task file")
    bad = next((name for name in task.tests if ".py" not in name.split("::")[0] or "::" not in name), None)
    if bad is not None and program_of(task) is None:
        problem = f"{bad[:80]!r} is no test as pytest names it"
        remedy = f"name tests as path/to/test_file.py::test_name (or as {' and '.join(PROGRAMS)} do, in an image)"
        raise UserError(field, task.where, problem, remedy)
