"""pytest, and the programs of `inside/`, as one folder that a sandbox is shown read-only.

The folder is put together once from the distributions that are installed here, without a network, and named by its
content; it lies in the system's folder for temporary files, or where the caller wants it. Nothing in it belongs to a
task, so all sandboxes of a machine share it.
"""

from __future__ import annotations

import compileall
import contextlib
import functools
import importlib.metadata
import os
import py_compile
import shutil
import stat
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from turnwise.errors import UserError

DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
LEXERS = ("__init__", "_mapping", "diff", "python")
"""Of the several hundred languages that pygments knows, those that pytest shows."""

INSIDE = Path(__file__).parent / "inside"
PACKAGES, PROGRAMS = "packages", "inside"
PASSABLE = 0o711
"""Whoever knows a name in the parent folder gets there: a container's user may be another one than ours."""


def kit_folder(parent: str | None = None) -> str:
    """Return the path of the folder, made if need be; UserError without pytest, or where it cannot be made.

    `parent`: where to make it, a folder that a sandbox may be shown; None: a folder of this user's for temporary files.
    """
    folder = _checked(parent)
    if not (Path(folder) / PROGRAMS / "watch.py").is_file():  # whoever tidies such folders up was here
        _checked.cache_clear()
        folder = _checked(parent)
    return folder


@functools.cache
def _checked(parent: str | None) -> str:
    sources = dict(_sources())
    folder = _parent(parent) / f"testkit-{_digest(sources)}"
    if not _is_whole(folder, sources):
        try:
            _make(folder, sources)
            if parent is None:
                folder.parent.chmod(PASSABLE)
        except OSError as error:
            raise UserError(
                "TMPDIR", folder.parent, f"cannot be written to ({error})", "set TMPDIR to a folder"
            ) from error
    return str(folder)


def _sources() -> Iterator[tuple[str, Path]]:
    """Yield what goes into the folder: the path there, and the file here."""
    for program in sorted(INSIDE.glob("*.py")):
        yield f"{PROGRAMS}/{program.name}", program
    for name in DISTRIBUTIONS:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            problem = f"{name} is not installed, and tests are run with it"
            raise UserError("env.id", "turnwise/SWE-v0", problem, "install pytest beside Turnwise") from None
        for file in sorted(files):
            is_module = file.suffix in (".py", ".pyi", ".typed") and ".." not in file.parts
            is_lexer = file.parts[:2] == ("pygments", "lexers") and file.stem not in LEXERS
            if is_module and not is_lexer and not file.parts[0].endswith(".dist-info"):
                yield f"{PACKAGES}/{file.as_posix()}", Path(str(file.locate()))


def _parent(parent: str | None) -> Path:
    if parent is not None:
        return Path(parent).resolve()
    return Path(tempfile.gettempdir()).resolve() / f"turnwise-{os.getuid()}"


def _digest(sources: dict[str, Path]) -> str:
    digest = blake2b(digest_size=12)
    for name, path in sources.items():
        digest.update(f"{name}\0{path.stat().st_size}\0{_version(name)}\0".encode())
        if name.startswith(PROGRAMS):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    """Return the version of pytest's distributions, for a file of theirs; they do not change without it."""
    return "" if name.startswith(PROGRAMS) else _versions()


@functools.cache
def _versions() -> str:
    return " ".join(importlib.metadata.version(name) for name in DISTRIBUTIONS)


def _is_whole(folder: Path, sources: dict[str, Path]) -> bool:
    """Whether the folder is there, ours, for nobody else to write to, and holds every file in its size."""
    try:
        status = folder.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
        return is_ours and all((folder / name).stat().st_size == path.stat().st_size for name, path in sources.items())
    except OSError:
        return False


def _make(folder: Path, sources: dict[str, Path]) -> None:
    """Put the folder together beside its place and move it there; another process may be first."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.parent.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder.parent} belongs to another user")
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        for name, path in sources.items():
            place = made / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(made, quiet=2, invalidation_mode=unchecked, stripdir=str(made))
        for place in (made, *made.rglob("*")):
            place.chmod(0o755 if place.is_dir() else 0o644)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
