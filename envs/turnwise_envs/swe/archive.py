"""Archives of files: other people's, read within bounds and never unpacked to a disk, and ours, made for sandboxes."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Callable, Mapping

from turnwise_envs.swe import diffs

MAX_FILES = 20_000
MAX_BYTES = 256 * 2**20

FIXED_TIME = 1_600_000_000
"""Modification time of every file, seconds since 1970: the same task is the same workspace."""


def read_archive(archive: tarfile.TarFile, name: str) -> tuple[dict[str, bytes], frozenset[str]]:
    """Return an archive's files, and which of them may be executed; DiffError, OSError or TarError if it is unfit.

    `name` is the archive's, for messages.

    A link within the repository counts as the file that it leads to; one to a folder, or to nothing, is left out.
    """
    files: dict[str, bytes] = {}
    executable = set()
    links: dict[str, str] = {}
    size = 0
    for member in archive:
        if member.name.strip("./") == "":
            continue
        path = diffs.safe_path(member.name) if ".git" not in member.name.split("/") else ""
        size += member.size
        if size > MAX_BYTES or len(files) + len(links) > MAX_FILES:
            raise diffs.DiffError(f"{name}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
        if member.issym() or member.islnk():
            links[path] = _target(path, member)
        elif member.isfile() and path:
            content = archive.extractfile(member)
            files[path] = content.read() if content is not None else b""
            executable |= {path} if member.mode & 0o100 else set()
    files |= {path: files[target] for path, target in links.items() if path and target in files}
    return files, frozenset(executable)


def _target(name: str, member: tarfile.TarInfo) -> str:
    """Return where a link leads; DiffError for one that leads out."""
    above = posixpath.dirname(name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(above, member.linkname))
    return "" if target == "." else diffs.safe_path(target)


def pack(
    files: Mapping[str, bytes], executable: frozenset[str] = frozenset(), *, folder: str, keep: Callable[[str], bool]
) -> bytes:
    """Return a tar archive of those files that are to be kept, within a folder (`.`: none); the same give the same."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders = {folder} | {f"{folder}/{parent}" for path in files if keep(path) for parent in _parents(path)}
        for name in sorted(folders - {"."}):
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
