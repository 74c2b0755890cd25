"""What goes into the base image: this machine's shell, Python and git, as one tar archive with nothing of its owner.

Programs are found by name in the system's folders, the libraries that they need by `ldd`; nothing of `/etc`, no home
folder, no site package comes along. Everything stands where it stands here, so that a virtual environment made with
this Python works inside when its folder is shown. The same machine gives the same bytes: their digest is the address.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from turnwise.errors import UserError
from turnwise.sandbox.policy import interpreter

VERSION = "1"
"""Of this recipe; another one does not take an older one's image."""

FOLDERS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

NEEDED = ("sh", "cat", "ls", "grep", "sed", "tar", "true")

PROGRAMS = (
    "[", "awk", "base64", "basename", "bash", "busybox", "bzip2", "cat", "chgrp", "chmod", "chown", "cksum", "clear",
    "cmp", "comm", "cp", "csplit", "cut", "date", "dd", "df", "diff", "diff3", "dirname", "du", "echo", "egrep", "env",
    "expand", "expr", "factor", "false", "fgrep", "file", "find", "flock", "fmt", "fold", "free", "getconf", "getopt",
    "git", "grep", "groups", "gunzip", "gzip", "head", "hexdump", "hostname", "id", "install", "join", "kill", "less",
    "link", "ln", "locale", "ls", "make", "mawk", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "more", "mv", "nice",
    "nl", "nohup", "nproc", "numfmt", "od", "paste", "patch", "pgrep", "pkill", "pr", "printenv", "printf", "ps", "pwd",
    "readlink", "realpath", "rev", "rg", "rm", "rmdir", "sdiff", "sed", "seq", "setsid", "sh", "sha1sum", "sha256sum",
    "sha512sum", "shred", "shuf", "sleep", "sort", "split", "stat", "stdbuf", "strings", "stty", "sum", "sync", "tac",
    "tail", "tar", "tee", "test", "time", "timeout", "top", "touch", "tr", "tree", "true", "truncate", "tsort", "tty",
    "uname", "unexpand", "uniq", "unlink", "unshare", "unxz", "uptime", "users", "vi", "vim", "wc", "which", "whoami",
    "xargs", "xxd", "xz", "yes", "zcat",
)  # fmt: skip

DATA = ("/usr/lib/locale/C.utf8", "/usr/share/git-core/templates", "/usr/share/zoneinfo", "/usr/share/misc/magic.mgc")
"""Beside git's own programs: what programs look for and do without."""

STAND_INS = "/usr/lib/turnwise/gvisor"
"""The folder of programs for gVisor's sake: releases before 2023 refuse a flag that `ls` and `stat` of GNU give."""

BUSYBOX = ("ls", "stat")
"""What stands there where this machine has busybox."""

LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")

LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|site-packages|dist-packages|idlelib|tkinter|_tkinter[^/]*|turtledemo|config-[^/]*|tests?)(/|$)|\.a$"
)
"""Of Python's library: packages, caches, and what makes windows and extensions."""

EMPTY = {"/dev": 0o755, "/proc": 0o755, "/run": 0o755, "/sys": 0o755, "/tmp": 0o1777, "/workspace": 0o1777}

TEXTS = {
    "/etc/passwd": "root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:65534:65534:agent:/workspace:/bin/sh\n",
    "/etc/group": "root:x:0:\nagent:x:65534:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}

LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")


def write_base(file: IO[bytes]) -> None:
    """Write the archive. UserError on a machine without what every sandbox needs."""
    if lacking := [name for name in NEEDED if shutil.which(name, path=FOLDERS) is None]:
        raise UserError("sandbox.image", "", f"this machine has no {', '.join(lacking)}", "install coreutils and dash")
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        base = Base(archive)
        for name, mode in EMPTY.items():
            base.folder(Path(name), mode)
        for name in LINKS:
            base.alias(Path(name))
        for name, text in TEXTS.items():
            base.text(Path(name), text)
        for name in BUSYBOX if shutil.which("busybox", path=FOLDERS) else ():
            base.link(Path(STAND_INS, name), "/usr/bin/busybox")
        for path in sorted({*_closure(_programs()), *_data()}):
            base.path(path)


class Base:
    """The archive while it is written: every path once, the folders above it first, owned by root, of no date."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        """Take an empty archive."""
        self._archive = archive
        self._written: set[Path] = {Path("/")}

    def path(self, path: Path) -> None:
        """Add a file or a link and what it leads to; what is neither stays out."""
        path = path.parent.resolve() / path.name
        if path in self._written:
            return
        self.folder(path.parent)
        if path.is_symlink():
            self._link_and_target(path)
        elif path.is_file() and os.access(path, os.R_OK):
            self._add(path, tarfile.REGTYPE, data=path.read_bytes(), mode=0o755 if os.access(path, os.X_OK) else 0o644)

    def _link_and_target(self, path: Path) -> None:
        target = os.readlink(path)
        if (path.parent / target).is_relative_to("/etc"):  # which of several is meant: past what the owner has there
            target = str(path.resolve())
        found = path.parent / target
        if found.is_file() and not found.resolve().is_relative_to("/etc"):
            self._add(path, tarfile.SYMTYPE, link=target)
            self.path(found)

    def folder(self, path: Path, mode: int = 0o755) -> None:
        """Add a folder, and those above it."""
        if path not in self._written:
            self.folder(path.parent)
            self._add(path, tarfile.DIRTYPE, mode=mode)

    def alias(self, path: Path) -> None:
        """Add a folder that is a link on this machine as this link."""
        if path.is_symlink():
            self.link(path, os.readlink(path))

    def link(self, path: Path, target: str) -> None:
        """Add a link."""
        self.folder(path.parent)
        self._add(path, tarfile.SYMTYPE, link=target)

    def text(self, path: Path, text: str) -> None:
        """Add a file with this text."""
        self.folder(path.parent)
        self._add(path, tarfile.REGTYPE, data=text.encode(), mode=0o644)

    def _add(self, path: Path, kind: bytes, *, data: bytes = b"", link: str = "", mode: int = 0o777) -> None:
        self._written.add(path)
        member = tarfile.TarInfo(str(path).lstrip("/"))
        member.type, member.size, member.linkname, member.mode = kind, len(data), link, mode
        self._archive.addfile(member, io.BytesIO(data))


def _programs() -> Iterator[Path]:
    for name in PROGRAMS:
        if (found := shutil.which(name, path=FOLDERS)) is not None:
            yield Path(found)
    yield from _below(_git_folder())
    yield from _python()


def _python() -> Iterator[Path]:
    """Return the interpreter, its names and its library; its folder may be `/usr`, with much else in it."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("python", "python3", f"python{version}"):
        yield from _below(interpreter() / "bin" / name)
    for folder in {interpreter() / "lib" / f"python{version}", interpreter() / sys.platlibdir / f"python{version}"}:
        yield from (path for path in _below(folder) if not LEFT_OUT.search(str(path.relative_to(folder))))


def _data() -> Iterator[Path]:
    for name in DATA:
        yield from _below(Path(name))


def _git_folder() -> Path | None:
    """Return the folder of git's own programs."""
    if (git := shutil.which("git", path=FOLDERS)) is None:
        return None
    said = subprocess.run([git, "--exec-path"], capture_output=True, text=True, timeout=10, check=False)
    return Path(said.stdout.strip()) if said.returncode == 0 else None


def _below(folder: Path | None) -> Iterator[Path]:
    if folder is not None and folder.is_file():
        yield folder
    elif folder is not None and folder.is_dir():
        yield from (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _closure(paths: Iterable[Path]) -> set[Path]:
    """Return these and the libraries that they need, the loader among them."""
    found = set(paths)
    native = sorted(str(path.resolve()) for path in found if _is_native(path))
    for first in range(0, len(native), 200):
        said = subprocess.run(
            ["ldd", *native[first : first + 200]], capture_output=True, text=True, timeout=60, check=False
        )
        found.update(Path(name) for name in LIBRARY.findall(said.stdout))
    return found


def _is_native(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def signature() -> str:
    """Return which base image is this machine's, without looking at any file: Python and recipe."""
    return f"{VERSION} python {'.'.join(map(str, sys.version_info[:3]))} {interpreter()}"
