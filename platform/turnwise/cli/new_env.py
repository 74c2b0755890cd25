"""Writes the package of a new environment from the files in `template/`.

`turnwise env init` calls `write_package`. The package appears whole or not at all, and nothing is overwritten.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from turnwise.errors import UserError

_PLACEHOLDER = "@NAME@"
_FOLDER = "package"  # in the template; named after the package in what is written
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def write_package(name: str, folder: Path) -> Path:
    """Write `folder/name` and return it; UserError for an unfit name, or a target that exists or cannot be written."""
    _check_name(name)
    target = folder / name
    if target.exists():
        raise UserError("folder", target, "already exists", "choose another name or folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    except OSError as error:
        raise UserError(
            "folder", folder, f"cannot be written to ({error.strerror})", "choose another folder"
        ) from error
    try:
        _write_files(name, staging)
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError("name", name, "not a package name", "use lower-case letters, digits and _, a letter first")
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise UserError("name", name, "a module of this name is there already", "choose another name")


def _write_files(name: str, target: Path) -> None:
    for path, file in _files(resources.files("turnwise.cli") / "template"):
        written = target / (name + path.removeprefix(_FOLDER) if path.startswith(f"{_FOLDER}/") else path)
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(file.read_text(encoding="utf-8").replace(_PLACEHOLDER, name), encoding="utf-8")


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield the template's files by the path they are written to, without their suffix `.in`."""
    for item in folder.iterdir():
        if item.is_dir():
            yield from _files(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".in"):
            yield f"{prefix}{item.name.removesuffix('.in')}", item
