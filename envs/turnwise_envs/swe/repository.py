"""What a task is made of: the files of its repository before and after, read from its archive, held in memory.

`case_of` is asked for every episode, so the last cases are kept. All of it is outside the sandboxes, and none of it is
shown to an agent but `Case.workspace`. Archives are other people's: names that lead out, links that do, and sizes
beyond their bounds are refused, and nothing is ever unpacked to a disk.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from turnwise.errors import EnvError
from turnwise_envs.swe import diffs
from turnwise_envs.swe.task import SweTask

MAX_FILES = 20_000
MAX_BYTES = 256 * 2**20
MAX_CASES = 64
"""Cases kept in a process: episodes of a group begin together, and archives are a few MiB."""

FIXED_TIME = 1_600_000_000
"""Modification time of every file, seconds since 1970: the same task is the same workspace."""

_LOCK = threading.Lock()


class TaskError(EnvError):
    """A task cannot be set up: its archive cannot be read, or its diffs do not apply. Trying again does not help."""

    is_retryable = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Case:
    """A task and its files, by path from the repository's root; one in a process, so equal only to itself."""

    task: SweTask
    workspace: Mapping[str, bytes]  # what the agent begins with
    trusted: Mapping[str, bytes]  # the same with every test of the archive and of the test patch, for grading
    gold: Mapping[str, bytes]  # the workspace with the gold patch; the workspace itself where there is none
    executable: frozenset[str]  # files that may be executed

    def is_test(self, path: str) -> bool:
        """Whether a file counts as a test: by its name or folder, or because the task names it."""
        return path in self.named_tests or looks_like_test(path)

    @property
    def named_tests(self) -> frozenset[str]:
        """Files that the task itself names as tests."""
        recipe = self.task.recipe
        hidden = recipe.hidden if recipe is not None else ()
        patched = diffs.paths(self.task.test_patch)
        return frozenset((*hidden, *patched, *(name.split("::")[0] for name in self.task.tests)))


def looks_like_test(path: str) -> bool:
    """Whether a file's path is that of a test: a folder of tests, or a name that pytest collects."""
    *folders, name = path.split("/")
    is_named_so = name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))
    return is_named_so or name == "conftest.py" or bool({"test", "tests"} & set(folders))


def case_of(task: SweTask) -> Case:
    """Return a task's case; TaskError, naming the task, where it cannot be set up."""
    path = task.archive_path
    if path is None:
        problem = "it has no archive (turnwise.archive), only an image"
        raise TaskError(f"task {task.instance_id}: {problem}")
    try:
        status = path.stat()
        with _LOCK:
            return _case(_ByIdentity(task), (status.st_mtime_ns, status.st_size))
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
def _case(key: _ByIdentity, stamp: tuple[int, int]) -> Case:
    task, recipe = key.task, key.task.recipe
    path = task.archive_path
    assert recipe is not None
    assert path is not None
    clean, executable = read_archive(path)
    base = _applied(clean, recipe.bug, "turnwise.bug")
    absent = [path for path in recipe.hidden if path not in base]
    if absent:
        raise diffs.DiffError(f"hidden test {absent[0]} is not in the archive")
    workspace = {path: data for path, data in base.items() if path not in recipe.hidden}
    workspace |= {path: text.encode() for path, text in recipe.added.items()}
    return Case(
        task=task,
        workspace=workspace,
        trusted=_applied(base, task.test_patch, "test_patch"),
        gold=_applied(workspace, task.patch, "patch"),
        executable=executable,
    )


def _applied(files: Mapping[str, bytes], diff: str, name: str) -> Mapping[str, bytes]:
    try:
        return diffs.apply(files, diff) if diff else files
    except diffs.DiffError as error:
        raise diffs.DiffError(f"{name}: {error}") from None


def read_archive(path: Path) -> tuple[dict[str, bytes], frozenset[str]]:
    """Return an archive's files, and which of them may be executed; DiffError, OSError or TarError if it is unfit.

    A link within the repository counts as the file that it leads to; one to a folder, or to nothing, is left out.
    """
    files: dict[str, bytes] = {}
    executable = set()
    links: dict[str, str] = {}
    size = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.strip("./") == "":
                continue
            name = diffs.safe_path(member.name) if ".git" not in member.name.split("/") else ""
            size += member.size
            if size > MAX_BYTES or len(files) + len(links) > MAX_FILES:
                raise diffs.DiffError(f"{path}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
            if member.issym() or member.islnk():
                links[name] = _target(name, member)
            elif member.isfile() and name:
                content = archive.extractfile(member)
                files[name] = content.read() if content is not None else b""
                executable |= {name} if member.mode & 0o100 else set()
    files |= {name: files[target] for name, target in links.items() if name and target in files}
    return files, frozenset(executable)


def _target(name: str, member: tarfile.TarInfo) -> str:
    """Return where a link leads; DiffError for one that leads out."""
    above = posixpath.dirname(name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(above, member.linkname))
    return "" if target == "." else diffs.safe_path(target)


def pack(
    files: Mapping[str, bytes], executable: frozenset[str] = frozenset(), *, folder: str, keep: Callable[[str], bool]
) -> bytes:
    """Return a tar archive of those files that are to be kept, within a folder; the same files give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders = {folder} | {f"{folder}/{parent}" for path in files if keep(path) for parent in _parents(path)}
        for name in sorted(folders):
            archive.addfile(_member(name, 0o755, tarfile.DIRTYPE))
        for path in sorted(filter(keep, files)):
            member = _member(f"{folder}/{path}", 0o755 if path in executable else 0o644, tarfile.REGTYPE)
            member.size = len(files[path])
            archive.addfile(member, io.BytesIO(files[path]))
    return packed.getvalue()


def _member(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.mtime = mode, kind, FIXED_TIME
    return member


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: size + 1]) for size in range(len(parts))]
