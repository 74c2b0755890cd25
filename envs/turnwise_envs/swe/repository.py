"""What a task is made of: the files of its repository before and after, from its archive or image, held in memory.

`case_of` is asked for every episode, so the last cases are kept. All of it is outside the sandboxes, and none of it is
shown to an agent but `Case.workspace`. Archives are other people's: names that lead out, links that do, and sizes
beyond their bounds are refused, and nothing is ever unpacked to a disk.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from turnwise.errors import EnvError
from turnwise.sandbox.policy import SandboxPolicy
from turnwise_envs.swe import diffs
from turnwise_envs.swe.archive import read_archive
from turnwise_envs.swe.imaged import MAX_IMAGES, read_image, within
from turnwise_envs.swe.task import Recipe, SweTask

MAX_CASES = 64
"""Cases kept in a process: episodes of a group begin together, and archives are a few MiB."""

FOLDER = "repo"
"""The repository's folder in the workspace, where it is not the workspace itself."""

_LOCK = threading.Lock()


class TaskError(EnvError):
    """A task cannot be set up: its files cannot be read, or its diffs do not apply. Trying again does not help."""

    is_retryable = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Case:
    """A task and its files, by path from the repository's root; one in a process, so equal only to itself."""

    task: SweTask
    workspace: Mapping[str, bytes]  # what the agent begins with
    trusted: Mapping[str, bytes]  # the same with every test of the archive and of the test patch, for grading
    gold: Mapping[str, bytes]  # the workspace with the gold patch; the workspace itself where there is none
    executable: frozenset[str]  # files that may be executed
    named: frozenset[str]  # files that the task itself names as tests
    mended: frozenset[str]  # files that the gold patch changes
    stamp: tuple[int, int]  # modification time, ns, and size of the archive: cases of equal stamps are equal
    python: str = ""  # path of the image's own interpreter; empty for a task with an archive

    @property
    def folder(self) -> str:
        """The repository's folder in a sandbox's workspace."""
        return "." if self.python else FOLDER

    def within(self, policy: SandboxPolicy) -> SandboxPolicy:
        """Return the policy of a sandbox that this task can be run in."""
        return within(policy, self.task.image) if self.python and self.task.image else policy

    def is_test(self, path: str) -> bool:
        """Whether a file counts as a test: the task names it, or its path is one's and the fix leaves it alone."""
        return path in self.named or (looks_like_test(path) and path not in self.mended)


def looks_like_test(path: str) -> bool:
    """Whether a file's path is that of a test: a folder of tests, or a name that pytest collects."""
    *folders, name = path.split("/")
    is_named_so = name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))
    return is_named_so or name == "conftest.py" or bool({"test", "tests"} & set(folders))


def case_of(task: SweTask, policy: SandboxPolicy | None = None, field: str = "sandbox") -> Case:
    """Return a task's case; TaskError, naming the task, where it cannot be set up.

    `policy`: what a sandbox may hold that reads the repository out of the task's image; `field`: where it stands.
    UserError and SandboxLost as from opening one.
    """
    path, policy = task.archive_path, policy or SandboxPolicy()
    try:
        if path is None:
            return _imaged(_ByIdentity(task), policy.disk_mb, policy.memory_mb, field)
        status = path.stat()
        with _LOCK:
            return _archived(_ByIdentity(task), (status.st_mtime_ns, status.st_size))
    except (OSError, tarfile.TarError, diffs.DiffError, EOFError, ValueError) as error:
        raise TaskError(f"task {task.instance_id}: {error}") from error


class _ByIdentity:
    """A task as a key: tasks hold mappings, which have no hash; those of one file and name are the same."""

    def __init__(self, task: SweTask) -> None:
        self.task = task

    def __hash__(self) -> int:
        return hash((self.task.source, self.task.instance_id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and (other.task is self.task or other.task == self.task)


@lru_cache(maxsize=MAX_CASES)
def _archived(key: _ByIdentity, stamp: tuple[int, int]) -> Case:
    path = key.task.archive_path
    assert path is not None
    with tarfile.open(path) as archive:
        clean, executable = read_archive(archive, str(path))
    return _case(key.task, clean, executable, stamp, "")


@lru_cache(maxsize=MAX_IMAGES)
def _imaged(key: _ByIdentity, disk_mb: int, memory_mb: int, field: str) -> Case:
    if key.task.image is None:
        raise diffs.DiffError("it has neither an archive (turnwise.archive) nor an image")
    held = read_image(key.task.image, disk_mb, memory_mb, field)
    return _case(key.task, held.files, held.executable, (0, 0), held.python)


def _case(
    task: SweTask, clean: Mapping[str, bytes], executable: frozenset[str], stamp: tuple[int, int], python: str
) -> Case:
    recipe = task.recipe or Recipe()
    base = _applied(clean, recipe.bug, "turnwise.bug")
    absent = [path for path in recipe.hidden if path not in base]
    if absent:
        raise diffs.DiffError(f"hidden test {absent[0]} is not in the repository")
    workspace = {path: data for path, data in base.items() if path not in recipe.hidden}
    workspace |= {path: text.encode() for path, text in recipe.added.items()}
    return Case(
        task=task,
        workspace=workspace,
        trusted=_applied(base, task.test_patch, "test_patch"),
        gold=_applied(workspace, task.patch, "patch"),
        executable=executable,
        named=frozenset((*recipe.hidden, *diffs.paths(task.test_patch), *(name.split("::")[0] for name in task.tests))),
        mended=frozenset(diffs.paths(task.patch)),
        stamp=stamp,
        python=python,
    )


def _applied(files: Mapping[str, bytes], diff: str, name: str) -> Mapping[str, bytes]:
    try:
        return diffs.apply(files, diff) if diff else files
    except diffs.DiffError as error:
        raise diffs.DiffError(f"{name}: {error}") from None
