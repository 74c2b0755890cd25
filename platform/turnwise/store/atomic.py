"""Files and folders that are either whole or absent: temporary name, fsync, rename.

Used by the store, the run folder and the summary. A crash may leave names that begin with `.tmp-`: readers ignore
them and `remove_leftovers` deletes them. Not promised: any order between two files, which is the caller's business.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TMP_PREFIX = ".tmp-"
_OLD_PREFIX = ".tmp-old-"


def write_bytes_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that `path` holds the old or the new content, also after a power cut; OSError names the path."""
    temporary = path.with_name(f"{TMP_PREFIX}{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"{error.strerror}, while writing", str(path)) from error
    sync_folder(path.parent)


def write_json_atomically(path: Path, data: Mapping[str, Any]) -> None:
    """Write indented JSON atomically; ValueError for NaN or infinity, which JSON lacks."""
    text = json.dumps(data, indent=2, allow_nan=False)
    write_bytes_atomically(path, f"{text}\n".encode())


def commit_folder(temporary: Path, path: Path) -> None:
    """Make a written folder durable and give it its name; one that has the name already is replaced."""
    for folder, _, names in os.walk(temporary):
        for name in names:
            _sync_file(Path(folder, name))
        sync_folder(Path(folder))
    old = path.with_name(f"{_OLD_PREFIX}{path.name}")
    if path.exists():
        path.rename(old)
    temporary.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder so that it is never seen with a part of its files."""
    doomed = path.with_name(f"{TMP_PREFIX}{path.name}-{os.getpid()}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Delete what a crash left under temporary names; a folder caught while being replaced gets its name back."""
    for path in sorted(folder.glob(f"{TMP_PREFIX}*")):
        name = path.name.removeprefix(_OLD_PREFIX)
        if name != path.name and not path.with_name(name).exists():
            path.rename(path.with_name(name))
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions within a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
