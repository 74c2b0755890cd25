"""The agent's sandbox: the repository at its base with a history of one commit, and a shell that remembers.

Opened at its first use. Everything in it is the agent's to spoil: what it did is read from a snapshot, outside
(`changes.py`), and graded elsewhere (`grade.py`). Nothing that the agent must not see is ever in it.
"""

from __future__ import annotations

import posixpath
import weakref
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from turnwise.sandbox import FileRefused, Ran
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise_envs.swe.archive import pack
from turnwise_envs.swe.changes import TooMuchError, edits_in
from turnwise_envs.swe.grade import with_kit
from turnwise_envs.swe.repository import Case, TaskError
from turnwise_envs.swe.testkit import PACKAGES, kit_folder

MAX_COMMAND = 100_000
"""Characters; a longer one does not fit a process's arguments."""

CHOOSE = 'command -v bash > /dev/null && exec bash -c "$0" bash "$1" || exec sh -c "$0" sh "$1"'
SHELL = """
_kept="${TMPDIR:-/tmp}/.shell"
mkdir -p "$_kept"
[ -n "$PYTHON_FOLDER" ] && export PATH="$PYTHON_FOLDER:$PATH" && unset PYTHON_FOLDER
[ -f "$_kept/env" ] && . "$_kept/env" 2>/dev/null
[ -f "$_kept/cwd" ] && cd "$(cat "$_kept/cwd")" 2>/dev/null
trap '_code=$?; pwd > "$_kept/cwd" 2>/dev/null; export -p > "$_kept/env" 2>/dev/null; exit $_code' EXIT
exec 2>&1
eval "$1"
"""
"""Folder and exported variables are kept in files between commands, since nothing that runs is."""


COMMIT = """
git init -q . && git add -A -f . && git commit -q -m 'The repository at the time of the issue' &&
rm -rf .git/logs .git/hooks .git/COMMIT_EDITMSG .git/description && git config --unset core.logAllRefUpdates; true
"""
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "init.defaultBranch",
    "GIT_CONFIG_VALUE_0": "main",
    "GIT_CONFIG_KEY_1": "core.logAllRefUpdates",
    "GIT_CONFIG_VALUE_1": "false",
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (
        ("NAME", "Turnwise"), ("EMAIL", "turnwise@localhost"), ("DATE", "2020-09-13T12:26:40Z"))},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A workspace of which no snapshot can be had, by the agent's doing."""

    why: str


class Workspace:
    """One episode's sandbox. `SandboxLost` from everything but `close` once it is gone."""

    def __init__(self, case: Case, policy: SandboxPolicy, field: str = "sandbox") -> None:
        """Take the case; nothing is opened yet."""
        self.case, self._policy, self._field = case, policy, field
        self._box: BlockingSandbox | None = None
        self._edits: dict[str, bytes | None] | Unreadable | None = {}

    @property
    def box(self) -> BlockingSandbox:
        """The sandbox, opened and filled at the first call."""
        if self._box is None:
            box = BlockingSandbox(with_kit(self.case.within(self._policy)), self._field)
            try:
                _fill(box, self.case)
            except BaseException:
                box.close()
                raise
            self._box = box
        return self._box

    def shell(self, command: str, deadline_s: float) -> Ran:
        """Run a command in the persistent shell; all its output is standard output."""
        self._edits = None
        argv = ["/bin/sh", "-c", CHOOSE, SHELL, command]
        return self.box.exec(argv, cwd=self.case.folder, env=variables(self.case), deadline_s=deadline_s)

    def run(self, argv: Sequence[str], deadline_s: float) -> Ran:
        """Run a program that changes nothing, in the repository."""
        return self.box.exec(list(argv), cwd=self.case.folder, env=variables(self.case), deadline_s=deadline_s)

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return a file's content; FileRefused."""
        return self.box.read(self._inside(path), max_bytes=max_bytes)

    def write(self, path: str, data: bytes) -> None:
        """Replace a file; FileRefused."""
        self.box.write(self._inside(path), data)
        self._edits = None

    def edits(self) -> dict[str, bytes | None] | Unreadable:
        """Return what has changed in the repository."""
        if self._edits is None:
            try:
                self._edits = edits_in(self.box.snapshot(), self.case.workspace, self.case.folder)
            except (FileRefused, TooMuchError) as error:
                self._edits = Unreadable(why=str(error))
        return self._edits

    def _inside(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.case.folder}/{path}"

    def close(self) -> None:
        """End the sandbox; may be called twice."""
        box, self._box = self._box, None
        if self._edits is None:
            self._edits = Unreadable(why="the sandbox was closed")
        if box is not None:
            box.close()


SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "PAGER": "cat",
}
"""What an agent's commands do is the same each time, and leaves nothing of Python's behind."""


def variables(case: Case) -> dict[str, str]:
    """Return the variables that an agent's commands begin with; an image's Python has its packages already."""
    if case.python:
        return {"PYTHON_FOLDER": posixpath.dirname(case.python), **SETTINGS}
    recipe = case.task.recipe
    root = recipe.root if recipe is not None else "."
    here = "" if root == "." else f":{root}"
    return {"PYTHONPATH": f"{kit_folder()}/{PACKAGES}{here}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **SETTINGS}


def _fill(box: BlockingSandbox, case: Case) -> None:
    """Put the repository and its history there; both are made once a case, in the first sandbox that holds it."""
    try:
        prepared = _PREPARED.get(case)
        if prepared is not None:
            box.restore(prepared)
            return
        box.restore(pack(case.workspace, case.executable, folder=case.folder, keep=lambda _: True))
        box.exec(["/bin/sh", "-c", COMMIT], cwd=case.folder, env=GIT)
        _PREPARED[case] = box.snapshot()
    except FileRefused as error:
        raise TaskError(f"task {case.task.instance_id}: the repository does not fit its sandbox ({error})") from error


_PREPARED: MutableMapping[Case, bytes] = weakref.WeakKeyDictionary()
"""Workspaces with their history, by case, as long as that is kept; no agent was in them."""
