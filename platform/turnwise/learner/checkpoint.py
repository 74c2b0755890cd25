"""Folders that are either complete or absent, whatever is killed and whenever.

`write_atomically` fills a temporary sibling, forces it to the disk and renames it; `remove_leftovers` clears what a
killed writer left behind. Used by whoever saves a run. Not for two writers of one folder at once: the run's lock
forbids that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from turnwise.errors import UserError

TEMPORARY = ".tmp-"
"""How names of unfinished files and folders begin."""


def write_atomically(folder: Path, writer: Callable[[Path], None]) -> None:
    """Let `writer` fill a temporary folder, then give it its name.

    FileExistsError if `folder` exists: a checkpoint is never overwritten. UserError naming the folder if it cannot be
    written (disk full, say); the temporary is then removed, and everything else is as before.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a checkpoint is never overwritten")
    temporary = folder.with_name(TEMPORARY + folder.name)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        writer(temporary)
        sync_tree(temporary)
        temporary.rename(folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _unwritable(folder, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a small text file; readers see the old text or the new one. UserError if it cannot be written."""
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def remove_leftovers(parent: Path) -> list[str]:
    """Remove what killed writers left in `parent` and return the names; call it once, before anything is written."""
    leftovers = sorted(parent.glob(f"{TEMPORARY}*")) if parent.is_dir() else []
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in leftovers]


def sync_tree(folder: Path) -> None:
    """Force every file and directory under `folder` to the disk."""
    for directory, _, names in os.walk(folder):
        for name in names:
            _sync(Path(directory) / name)
        _sync(Path(directory))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(
        "runs_dir", path, f"cannot be written ({reason})", "free space or permit writing, then resume=true"
    )
