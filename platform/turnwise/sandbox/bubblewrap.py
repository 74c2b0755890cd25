"""The tier `bubblewrap`: namespaces of its own, no network, no capability, a filter of system calls, limits.

Everything inside lives in memory and ends with one process, so that nothing is left to be cleaned up, whoever was
killed: files are in a tmpfs of the policy's size, processes in a namespace whose first one is `inside.py`. It ends when
the pipe to the process that opened it closes. `--die-with-parent` would be worse: a bwrap that dies between the birth
of its child and the word to go on leaves that child waiting for ever.

Where this process is root, `inside.py` becomes a user of its own before anything else, so that a way
out leads to nobody; else a namespace of users hides this process's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import IO

from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.cgroup import Cgroup, make
from turnwise.sandbox.link import PipeLink
from turnwise.sandbox.policy import MIB, TMP_MB, WORKSPACE, SandboxPolicy, drawn_uid, environment, interpreter
from turnwise.sandbox.seccomp import program
from turnwise.sandbox.served import INSIDE, START_S, Served, limits, settings

AGENT = 65534
"""The user inside, where namespaces of users make one."""

SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
"""Beside /usr: links into it on most machines, folders on others."""

DATA = {
    "/etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:{uid}:{uid}:agent:/workspace:/bin/sh\n",
    "/etc/group": "root:x:0:\nagent:x:{uid}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
FROM_HOST = ("/etc/alternatives", "/etc/ld.so.cache")


class BubblewrapLink(PipeLink):
    """A process of bwrap, the first one inside, and their control group."""

    def __init__(self, process: asyncio.subprocess.Process, cgroup: Cgroup | None) -> None:
        """Take over the process of bwrap and the control group."""
        super().__init__(process)
        self._cgroup = cgroup
        self._first: int | None = None

    def hold(self, first: int) -> None:
        """Take over the sandbox's first process, by its id outside, and put it into the control group."""
        self._first = os.pidfd_open(first)
        if self._cgroup is not None:
            self._cgroup.add(first)

    def end(self) -> None:
        """Kill the first process; bwrap ends with it. One that is just starting is killed with its child."""
        if self._first is None:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)

    async def close(self) -> str:
        """End everything inside."""
        how = await super().close()
        if self._first is not None:
            os.close(self._first)
            self._first = None
        if self._cgroup is not None:
            await asyncio.to_thread(self._cgroup.remove)
        return how


async def open_bubblewrap(policy: SandboxPolicy) -> Served:
    """Start a sandbox; `SandboxLost` if it does not come up."""
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        passed = Passed(theirs)
        hold = passed.reader(ours)  # bwrap waits for a byte, until it is in its control group
        status = passed.writer(ours)
        said = ours.enter_context(tempfile.TemporaryFile())
        cgroup = make(policy)
        try:
            process = await _born(_command(policy, passed, has_cgroup=cgroup is not None), said, passed.numbers)
        except BaseException as error:
            if cgroup is not None:
                cgroup.remove()
            if isinstance(error, OSError):
                raise SandboxLost(f"bubblewrap did not start: {error}") from error
            raise
        finally:
            theirs.close()
        link = BubblewrapLink(process, cgroup)
        try:
            link.hold(await asyncio.wait_for(asyncio.to_thread(_first_process, status), START_S))
            os.write(hold, b"x")
        except BaseException as error:
            await link.close()
            if isinstance(error, OSError | ValueError):  # a TimeoutError is an OSError
                raise SandboxLost(f"bubblewrap did not start: {_text(said)}") from error
            raise
        return await Served(Tier.BUBBLEWRAP, policy, link).begin(lambda: _text(said))


async def _born(words: list[str], said: IO[bytes], passed: list[int]) -> asyncio.subprocess.Process:
    """Return the process of bwrap; one whose start is given up is killed with its child, which asyncio would leave."""
    pipe = asyncio.subprocess.PIPE
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *words,
            stdin=pipe,
            stdout=pipe,
            stderr=said,
            env={},
            cwd="/",
            pass_fds=passed,
            start_new_session=True,
            limit=MIB,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await BubblewrapLink(await starting, None).close()
        raise


class Passed:
    """The descriptors that bwrap is given, the first to wait for, the second to report to."""

    def __init__(self, closing: contextlib.ExitStack) -> None:
        """`closing` closes ours of them."""
        self.numbers: list[int] = []
        self._closing = closing

    def reader(self, ours: contextlib.ExitStack) -> int:
        """Pass the reading end of a pipe; return the other one."""
        read, write = os.pipe()
        ours.callback(os.close, write)
        self._add(read)
        return write

    def writer(self, ours: contextlib.ExitStack) -> int:
        """Pass the writing end of a pipe; return the other one, which is passed too: a writer without a reader dies."""
        read, write = os.pipe()
        ours.callback(os.close, read)
        self._add(write)
        self.numbers.append(read)
        return read

    def data(self, content: bytes) -> str:
        """Pass a file with this content; return its number as bwrap's command line wants it."""
        number = os.memfd_create("turnwise", os.MFD_CLOEXEC)
        self._add(number)
        os.write(number, content)
        os.lseek(number, 0, os.SEEK_SET)
        return str(number)

    def _add(self, number: int) -> None:
        self._closing.callback(os.close, number)
        self.numbers.append(number)


def _command(policy: SandboxPolicy, passed: Passed, *, has_cgroup: bool) -> list[str]:
    """Return bwrap's command line; what it reads is added to `passed`."""
    held, status = passed.numbers[:2]
    uid = drawn_uid() if os.geteuid() == 0 else None
    words = [shutil.which("bwrap") or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    words += ["--unshare-cgroup", "--as-pid-1", "--new-session", "--hostname", "sandbox"]
    words += ["--cap-drop", "ALL", "--seccomp", passed.data(program())]
    words += ["--block-fd", str(held), "--json-status-fd", str(status)]
    if uid is None:
        words += ["--unshare-user", "--uid", str(AGENT), "--gid", str(AGENT), "--disable-userns"]
    else:
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    words += ["--proc", "/proc", "--dev", "/dev", *_memory("/dev/shm", TMP_MB), "--remount-ro", "/dev"]
    words += [*_memory("/tmp", TMP_MB), *_memory(WORKSPACE, policy.disk_mb), *_shown(policy)]
    for name, text in DATA.items():
        words += ["--perms", "0444", "--ro-bind-data", passed.data(text.format(uid=uid or AGENT).encode()), name]
    served = "/run/turnwise/inside.py"
    words += ["--perms", "0444", "--ro-bind-data", passed.data(INSIDE.read_bytes()), served]
    words += ["--remount-ro", "/", "--chdir", WORKSPACE]
    told = settings(WORKSPACE, limits(policy, in_all=has_cgroup), environment(), is_alone=True, uid=uid)
    python = interpreter() / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [*words, "--", str(python), "-I", "-S", served, told]


def _shown(policy: SandboxPolicy) -> list[str]:
    """Return the words for what is seen of the host, all of it read-only."""
    words = ["--ro-bind", "/usr", "/usr"]
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for path in (interpreter(), *map(Path, policy.read_only)):
        if not path.is_relative_to("/usr"):
            words += [*_folders(path.parent), "--ro-bind", str(path), str(path)]
    words += _folders(Path("/etc"))
    for name in FROM_HOST:
        words += ["--ro-bind-try", name, name]
    return words


def _folders(path: Path) -> list[str]:
    """Return the words that make a folder and those above it, for everybody to enter."""
    above = [folder for folder in (path, *path.parents) if folder != Path("/")]
    return [word for folder in reversed(above) for word in ("--perms", "0755", "--dir", str(folder))]


def _memory(path: str, size_mb: int) -> list[str]:
    return ["--perms", "1777", "--size", str(size_mb * MIB), "--tmpfs", path]


def _first_process(status: int) -> int:
    """Return the id of the sandbox's first process; ValueError if bwrap ended before it had one."""
    line = b""
    while not line.endswith(b"\n") and (part := os.read(status, 4096)):
        line += part
    return int(json.loads(line)["child-pid"])


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return " ".join(said.read(2000).decode(errors="replace").split()) or "it said nothing"
