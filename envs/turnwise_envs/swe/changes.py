"""What an agent did to a repository, computed outside from a snapshot of its sandbox, and what of it may be graded.

The snapshot is an archive that may be hostile: it is walked within bounds and never unpacked, links are not followed,
and what is no regular file in the repository is not there. What goes on to the grading is an allow-list: code and data
of the program. Tests, configuration, start-up files of Python's and whatever would take the place of pytest or of the
standard library stay behind, and the last three are named as tampering.
"""

from __future__ import annotations

import ast
import configparser
import io
import posixpath
import sys
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from turnwise_envs.swe import diffs
from turnwise_envs.swe.archive import MAX_FILES
from turnwise_envs.swe.repository import Case
from turnwise_envs.swe.scan import findings, suspicions
from turnwise_envs.swe.syntax import parse
from turnwise_envs.swe.testkit import DISTRIBUTIONS

MAX_CHANGED = 500
MAX_CHANGED_BYTES = 16 * 2**20
MAX_FILE_BYTES = 2 * 2**20
"""Of one changed file that is graded; longer ones stay behind."""

CONFIGURATION = ("setup.cfg", "tox.ini", "pyproject.toml")
SHADOWS = frozenset(("_pytest", "py", *DISTRIBUTIONS)) | sys.stdlib_module_names
STARTUP = ("sitecustomize.py", "usercustomize.py")
OF_PYTEST = ("conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml")

Edits = Mapping[str, bytes | None]
"""New content of files by path; None: the file is gone."""


class TooMuchError(ValueError):
    """The snapshot is larger than what is looked at, or is no archive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """Changes after the allow-list."""

    taken: Edits  # what is graded
    left: tuple[str, ...]  # paths that are not
    suspicions: tuple[str, ...]  # signs of tampering, in words


def edits_in(snapshot: bytes, before: Mapping[str, bytes], folder: str) -> dict[str, bytes | None]:
    """Return how the files of a folder in a snapshot differ from what they were; TooMuchError."""
    now = files_in(snapshot, folder)
    edits: dict[str, bytes | None] = {path: data for path, data in now.items() if before.get(path) != data}
    return edits | {path: None for path in before if path not in now}


def files_in(snapshot: bytes, folder: str) -> dict[str, bytes]:
    """Return the regular files of a folder in an archive, git's own left out; TooMuchError."""
    files: dict[str, bytes] = {}
    num_members = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
            for member in archive:
                num_members += 1
                if num_members > 4 * MAX_FILES or len(files) > MAX_FILES:
                    raise TooMuchError(f"more than {MAX_FILES} files")
                path = _inner(member.name, folder)
                if path is None:
                    continue
                if member.isreg():
                    content = archive.extractfile(member)
                    files[path] = content.read() if content is not None else b""
                elif member.islnk():
                    source = _inner(member.linkname, folder)
                    files |= {path: files[source]} if source in files else {}
    except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError, OverflowError) as error:
        raise TooMuchError(str(error) or type(error).__name__) from error
    return files


def _inner(name: str, folder: str) -> str | None:
    """Return a member's path within the folder; None for what is none of the repository's files."""
    name = posixpath.normpath(name)
    if folder != ".":
        if not name.startswith(f"{folder}/"):
            return None
        name = name.removeprefix(f"{folder}/")
    is_within = name not in (".", "..") and not name.startswith(("/", "../"))
    return name if is_within and ".git" not in name.split("/") and _is_text(name) else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def digest(edits: Edits) -> str:
    """Return a key that is equal for equal changes."""
    total = blake2b(digest_size=8)
    for path in sorted(edits):
        data = edits[path]
        total.update(f"{path}\0{-1 if data is None else len(data)}\0".encode())
        total.update(data or b"")
    return total.hexdigest()


def verify(case: Case, edits: Edits) -> Verified:
    """Sort changes into those that are graded and those that are not, and name what looks like tampering."""
    wanted = {path: data for path, data in edits.items() if _may_go(case, path, data)}
    taken = _bounded({path: data for path, data in wanted.items() if not _is_stray(case, path, wanted)})
    found = [word for path, data in edits.items() for word in _meddling(case, path, data)]
    found += [f"{path}: {word}" for path, data in taken.items() for word in _read(case, path, data)]
    left = tuple(sorted(path for path in edits if path not in taken))
    return Verified(taken=taken, left=left, suspicions=tuple(found))


def _bounded(edits: Edits) -> Edits:
    """Return the first changes by path, up to a number of files and bytes."""
    kept: dict[str, bytes | None] = {}
    size = 0
    for path in sorted(edits):
        size += len(edits[path] or b"")
        if len(kept) == MAX_CHANGED or size > MAX_CHANGED_BYTES:
            break
        kept[path] = edits[path]
    return kept


def _may_go(case: Case, path: str, data: bytes | None) -> bool:
    """Whether a changed file is on the allow-list."""
    *folders, name = path.split("/")
    if case.is_test(path) or any(part.startswith(".") or part == "__pycache__" for part in path.split("/")):
        return False
    if name in (*CONFIGURATION, *STARTUP, *OF_PYTEST) or name.endswith((".pth", ".pyc", ".pyo", ".so", ".pyd", ".egg")):
        return False
    if any(part.endswith((".dist-info", ".egg-info")) for part in folders) or _is_shadow(case, path):
        return False
    recipe = case.task.recipe
    if recipe is not None and path in recipe.added:
        return False
    return data is None or (len(data) <= MAX_FILE_BYTES and b"\0" not in data)


def _is_stray(case: Case, path: str, wanted: Edits) -> bool:
    """Whether a file is new and no part of the program: a script at the root, say, that no other change imports."""
    if path in case.workspace:
        return False
    *folders, name = path.removeprefix(_prefix(case)).split("/")
    if any(_holds_code(case, f"{_prefix(case)}{'/'.join(folders[:size])}/") for size in range(1, len(folders) + 1)):
        return False
    top = folders[0] if folders else name.removesuffix(".py")
    others = (data for other, data in wanted.items() if other != path and other.endswith(".py"))
    return not any(top in _imports(data) for data in others if data is not None)


def _holds_code(case: Case, folder: str) -> bool:
    return any(path.startswith(folder) and path.endswith(".py") for path in case.workspace)


def _imports(source: bytes) -> set[str]:
    try:
        tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0], *(alias.name for alias in node.names)}
    return found


def _prefix(case: Case) -> str:
    recipe = case.task.recipe
    return "" if recipe is None or recipe.root == "." else f"{recipe.root}/"


def _is_shadow(case: Case, path: str) -> bool:
    """Whether a file would be imported in the place of a module of pytest's or of the standard library's."""
    for prefix in {"", _prefix(case)}:
        first, _, rest = path.removeprefix(prefix).partition("/")
        is_module = path.startswith(prefix) and (first.endswith(".py") if not rest else path.endswith(".py"))
        had = any(other.startswith(f"{prefix}{first}/") for other in case.workspace) or path in case.workspace
        if is_module and first.removesuffix(".py") in SHADOWS and not had and first not in ("test", "tests"):
            return True
    return False


def _meddling(case: Case, path: str, data: bytes | None) -> Iterator[str]:
    """Yield what a changed file, graded or not, shows of tampering."""
    name = path.rpartition("/")[2]
    before = case.workspace.get(path)
    is_packaging = any(part.endswith((".dist-info", ".egg-info")) for part in path.split("/"))
    if name in (*STARTUP, *OF_PYTEST) or name.endswith(".pth") or (is_packaging and name == "entry_points.txt"):
        yield f"{path} was written" if data is not None else f"{path} was removed"
    elif _is_shadow(case, path) and data is not None:
        yield f"{path} takes the place of another module"
    elif name in CONFIGURATION and _settings(name, before) != _settings(name, data):
        yield f"{path}: pytest's settings were changed"
    elif before is not None and case.is_test(path) and path.endswith(".py") and not _is_added(case, path):
        yield from _weakened(path, before, data)


def _is_added(case: Case, path: str) -> bool:
    return case.task.recipe is not None and path in case.task.recipe.added


def _settings(name: str, data: bytes | None) -> Any:
    """Return a configuration file's settings of pytest's, or the whole file where it cannot be read."""
    if data is None:
        return {}
    try:
        text = data.decode()
        if name.endswith(".toml"):
            return tomllib.loads(text).get("tool", {}).get("pytest", {})
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(text)
        return {name: dict(parser[name]) for name in ("pytest", "tool:pytest") if name in parser and dict(parser[name])}
    except (ValueError, configparser.Error, AttributeError, RecursionError):
        return data


def _weakened(path: str, before: bytes, data: bytes | None) -> Iterator[str]:
    """Yield how a test file that was there has been weakened: by its removal, by tests gone, by skips."""
    if data is None:
        yield f"{path} was removed"
        return
    old, new = _tests(before), _tests(data)
    if new is None or old is None:
        return
    if old.keys() - new.keys() - {_SKIPS}:
        yield f"{path}: {len(old.keys() - new.keys() - {_SKIPS})} tests were removed"
    if new[_SKIPS] > old[_SKIPS]:
        yield f"{path}: tests are skipped"


_SKIPS = "skips"
_SKIPPING = ("skip", "skipif", "skipIf", "skipTest", "SkipTest", "xfail", "importorskip", "allow_module_level", "exit")


def _tests(source: bytes) -> Counter[str] | None:
    """Return the names of tests in a file, and how often something in it skips; None if it does not parse."""
    try:
        tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: Counter[str] = Counter({_SKIPS: 0})
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            found[node.name] += 1
        elif isinstance(node, ast.Attribute) and node.attr in _SKIPPING:
            found[_SKIPS] += 1
    return found


def _read(case: Case, path: str, data: bytes | None) -> list[str]:
    if data is None or not path.endswith(".py"):
        return []
    gold = case.gold.get(path)
    return suspicions(case.workspace.get(path), data, findings(gold) if gold is not None else None)


def apply(files: Mapping[str, bytes], edits: Edits) -> dict[str, bytes]:
    """Return files with changes made."""
    after = {path: data for path, data in files.items() if edits.get(path, b"") is not None}
    return after | {path: data for path, data in edits.items() if data is not None}


def diff_of(files: Mapping[str, bytes], edits: Edits) -> str:
    """Return changes as a unified diff, binary files left out."""
    texts = {path: data for path, data in edits.items() if b"\0" not in (data or b"") + files.get(path, b"")}
    before = {path: files[path] for path in texts if path in files}
    return diffs.make(before, {path: data for path, data in texts.items() if data is not None})
