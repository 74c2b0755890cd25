"""Packs installed packages as wheels that a Ray cluster installs without asking any index.

`turnwise submit` ships them. They hold what is imported here (a source checkout or an installed package), name the
entry points under which plug-ins are found, and ask for no other package: the cluster has to bring those.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, entry_points
from pathlib import Path

from turnwise.errors import UserError
from turnwise.registry import GROUP

_EPOCH = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal content gives equal bytes and is uploaded once
_SKIPPED = ("__pycache__", ".pyc", ".pyo")
_BINARY = (".so", ".pyd", ".dylib")


def plugin_distributions() -> list[Distribution]:
    """Return the distributions that register plug-ins, our own among them."""
    found = {entry.dist.name: entry.dist for entry in entry_points(group=GROUP) if entry.dist is not None}
    return [found[name] for name in sorted(found)]


def pack_wheel(distribution: Distribution, folder: Path) -> Path:
    """Write a wheel of the packages behind a distribution's plug-ins; UserError if one holds compiled code."""
    name, version = re.sub(r"[-_.]+", "_", distribution.name).lower(), distribution.version
    info = f"{name}-{version}.dist-info"
    content = dict(_package_files(distribution))
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: {version}\n".encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: turnwise\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/entry_points.txt"] = _entry_points_text(distribution).encode()
    content[f"{info}/RECORD"] = _record(content, f"{info}/RECORD").encode()
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, data in content.items():
            wheel.writestr(zipfile.ZipInfo(member, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return path


def _package_files(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    packages = {entry.module.partition(".")[0] for entry in distribution.entry_points if entry.group == GROUP}
    for package in sorted(packages):
        for root in _locations(package):
            files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
            for path in files:
                if any(part.endswith(_SKIPPED) for part in path.relative_to(root.parent).parts):
                    continue
                if path.suffix in _BINARY:
                    remedy = f"install {distribution.name} on the cluster"
                    raise UserError("plugin", package, f"{path.name} is compiled code and cannot be shipped", remedy)
                yield path.relative_to(root.parent).as_posix(), path.read_bytes()


def _locations(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UserError("plugin", package, "cannot be found", "mend or uninstall it")
    if spec.submodule_search_locations:
        return [Path(location) for location in spec.submodule_search_locations if Path(location).is_dir()]
    return [Path(spec.origin)] if spec.origin else []


def _entry_points_text(distribution: Distribution) -> str:
    entries = [f"{entry.name} = {entry.value}" for entry in distribution.entry_points if entry.group == GROUP]
    return "\n".join([f"[{GROUP}]", *entries, ""])


def _record(content: dict[str, bytes], itself: str) -> str:
    lines = []
    for member, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{member},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{itself},,", ""])
