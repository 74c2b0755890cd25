"""The set of tools `operators`, for small models: one tool that makes small edits of a line and runs the failing test.

Shown are, in few words (`compact.py`), the functions that the failing test runs, and what can be tried: changes, each
with a line where it can be made. `fix` names one of both. An edit that does not make the test pass is taken back at
once, so that every edit is tried on the repository as it was; one that does is submitted, and hidden tests decide. The
edits are the environment's own, so what they lead to may be remembered (`memory.py`): equal contents are run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from turnwise.env import ToolEnv, tool
from turnwise.env.calls import ToolCall, spell_compact
from turnwise.errors import InvalidAction, UserError
from turnwise_envs.arguments import SANDBOX
from turnwise_envs.swe.bench import can_run
from turnwise_envs.swe.changes import digest
from turnwise_envs.swe.compact import label
from turnwise_envs.swe.grade import grade_blocking
from turnwise_envs.swe.memory import Memory, memory_in
from turnwise_envs.swe.repairs import Attempt, Repairs, look_in, repairs
from turnwise_envs.swe.repository import TaskError
from turnwise_envs.swe.task import SweTask
from turnwise_envs.swe.testkit import PACKAGES, kit_folder
from turnwise_envs.swe.world import SweWorld, Tampered

LEAST_OUTPUT_KB = 4096
"""KiB of a command's output that the bench needs."""


class OperatorSwe(SweWorld, ToolEnv):
    """Small edits by what they change, and where."""

    instructions = (
        "A test of a repository fails. Shown are the functions that it runs, in few words, with a label behind each "
        "line that can be edited; then how the test fails; then what can be tried, a change and a line each: the token "
        "that would stand there, or one of not, neg, swap, return, drop, plus1, minus1, bare. fix(change, line) makes "
        "it and runs the test again. A change that does not make the test pass is taken back."
    )
    sample_actions: Sequence[str] = ("fix v0 | L1", "fix not | L2", "fix <= | L999", "fix L1", "hello")

    def __init__(
        self,
        *,
        tasks: str | Sequence[str] | None = None,
        eval_tasks: str | Sequence[str] | None = None,
        max_turns: int = 8,
        sandbox: Mapping[str, Any] | None = None,
        deadline_s: float = 40.0,
        remember: str | None = None,
        mistakes: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        """Read the task files; UserError for a value that does not fit.

        `tasks`, `eval_tasks`: files of tasks for training and held out. `max_turns`: the limit on calls. `sandbox`:
        keys of the policy. `deadline_s`: seconds for the tests of a grading, where a task has none of its own.
        `remember`: a folder where results are kept for other processes. `mistakes`: probability that a demonstrated
        call is drawn from all that have not been tried.
        """
        super().__init__(
            tasks=tasks,
            eval_tasks=eval_tasks,
            max_turns=max_turns,
            sandbox={"output_kb": LEAST_OUTPUT_KB, **(sandbox or {})},
            deadline_s=deadline_s,
            command_s=deadline_s,
            shown_bytes=8000,
            progress=False,
            mistakes=mistakes,
            render_mode=render_mode,
        )
        for split, field, given in (("train", "tasks", tasks), ("eval", "eval_tasks", eval_tasks)):
            self._tasks[split] = _runnable(self._tasks[split], f"env.kwargs.{field}", given)
        self._memory = memory_in(remember)
        self._repairs: Repairs | None = None
        self._attempts: list[Attempt] = []

    def opening(self) -> str:
        """Return the functions that the failing test runs, how it fails, and what can be tried."""
        self._attempts = []
        name, source = self.case.task.instance_id, f"{self.case.task.source} {self.case.stamp}"
        self._repairs = _KNOWN.of(name, source, self._surveyed)
        return f"{self.known.shown.text} {self.known.told(())}"

    @tool
    def fix(self, change: str, line: str) -> str:
        """Make a change on a line and run the failing test again.

        change: one that is shown
        line: the label behind it
        """
        attempt = self._attempt(change, line)
        self._attempts.append(attempt)
        passing = self.known.passing(attempt)
        if passing is not None:
            path, text = self.known.edited(passing)
            return self._submitted({path: text.encode()})
        if len(self._attempts) == len(self.known.attempts):
            self.reward("outcome", 0.0)
            self.finish()
        return self.known.told(self._attempts)

    @property
    def known(self) -> Repairs:
        """What is known of the task's edits."""
        if self._repairs is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._repairs

    def state_key(self) -> str | None:
        """Return the task and what has been tried, in any order."""
        if self._repairs is None:
            return None
        return f"{self.case.task.instance_id}/{sorted(self._attempts)}"

    def guide(self) -> str | None:
        """Return the lines of the functions where the bug is; None where none of them is shown."""
        recipe = self.case.task.recipe
        places = recipe.functions if recipe is not None else ()
        shown = [(self.known.functions[which].path, line) for which, line in self.known.shown.labelled]
        held = [
            label(number)
            for number, (path, line) in enumerate(shown, start=1)
            if any(place.path == path and place.first_line <= line <= place.last_line for place in places)
        ]
        return f"one of {held[0]} to {held[-1]}" if held else None

    def oracle(self, action: str) -> float | None:
        """Return 1 for a call that makes the gold patch's edit, 0 for another one, -1 for a malformed action."""
        try:
            given = self.read_call({"role": "assistant", "content": action}).arguments
            attempt = self._attempt(given["change"], given["line"])
        except InvalidAction:
            return -1.0
        return float(attempt in self._right()) if self.case.task.patch else None

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return a call that makes the gold patch's edit, or by mistake any that has not been tried."""
        others = [attempt for attempt in self.known.attempts if attempt not in self._attempts]
        choices = ([] if self.slips(rng) else self._right()) or others
        if not choices:
            return None
        change, line = choices[int(rng.integers(len(choices)))]
        return spell_compact(ToolCall(name="fix", arguments={"change": change, "line": line}))

    def _right(self) -> list[Attempt]:
        """Return the attempts whose edit makes the program what the gold patch makes it."""
        gold = self.case.gold
        found = []
        for attempt, edits in self.known.attempts.items():
            edited = [self.known.edited(at) for at in edits]
            if any(gold.get(path) == text.encode() for path, text in edited):
                found.append(attempt)
        return found

    def _attempt(self, change: str, line: str) -> Attempt:
        attempt = (change, line)
        if attempt not in self.known.attempts or attempt in self._attempts:
            raise InvalidAction(f"not to be tried ; {self.known.left(self._attempts)}")
        return attempt

    def _surveyed(self) -> Repairs:
        task, recipe, found = self.case.task, self.case.task.recipe, _reproduction(self.case.task)
        if recipe is None or found is None:
            raise TaskError(f"task {task.instance_id}: it has no reproduction")
        test, _ = found
        files = {path: _text(data) for path, data in self.case.workspace.items() if path.endswith(".py")}
        look = look_in(lambda: self.workspace.box, self.case.folder, recipe.root, f"{kit_folder()}/{PACKAGES}", test)
        try:
            return repairs(task.instance_id, files, test, self._memory, look)
        finally:
            self.workspace.close()

    def _submitted(self, edits: Mapping[str, bytes]) -> str:
        """Grade edits and end the episode; Tampered as `hand_in`."""
        task = self.case.task
        contents = f"{digest(edits)} {task.tests} {task.recipe} {self.case.stamp}"
        found = self._memory.of(f"{task.instance_id}-verdict", contents, lambda: self._graded(edits))
        if found["outcome"] is None:
            raise Tampered(f"{task.instance_id}: {'; '.join(found['tampering'])}")
        self._pay(found["outcome"], found["tests"])
        return "passes"

    def _graded(self, edits: Mapping[str, bytes]) -> dict[str, Any]:
        verdict = grade_blocking(self.case, edits, self.policy, deadline_s=self.deadline_s, test_s=None, field=SANDBOX)
        return {"outcome": verdict.outcome, "tests": dict(verdict.tests), "tampering": list(verdict.tampering)}


def _runnable(tasks: Sequence[SweTask], field: str, given: object) -> tuple[SweTask, ...]:
    """Return the tasks whose reproduction the bench can run; UserError if there are others only."""
    found = tuple(task for task in tasks if (test := _reproduction(task)) is not None and can_run(test[1]))
    if tasks and not found:
        problem = "none of its tasks has a reproduction, a test in turnwise.added, that asks for no fixtures"
        raise UserError(field, given, problem, "take tasks of turnwise swe build, or the tools full or bash")
    return found


def _reproduction(task: SweTask) -> tuple[str, str] | None:
    """Return path and text of the first test that only the workspace has."""
    added = task.recipe.added if task.recipe is not None else {}
    return next(((path, text) for path, text in added.items() if path.endswith(".py")), None)


_KNOWN = Memory(None)
"""Repairs of this process's tasks, a few hundred edits each: found by one thread while others wait."""


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
