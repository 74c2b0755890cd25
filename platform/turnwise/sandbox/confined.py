"""A program of this machine that somebody else starts and speaks to by pipes, confined as the tier `bubblewrap` is.

Not a sandbox to run commands in, but one for a program like a browser, whose driver wants to start it: the driver is
given `script`. Namespaces of its own, no capability, a filter of system calls, a user of its own where this process is
root, a control group where one can be made, nothing of the host but its programs, and no network at all: what connects
to a socket of `listener` is answered here. Through the tier `process` it is started in the same way and not confined.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from turnwise.sandbox import Tier
from turnwise.sandbox.bubblewrap import AGENT, FROM_HOST, SYSTEM
from turnwise.sandbox.cgroup import make
from turnwise.sandbox.policy import SandboxPolicy, drawn_uid, interpreter
from turnwise.sandbox.seccomp import program

INSIDE = Path(__file__).with_name("confined_inside.py")

ANSWER_S = 10.0
"""Seconds for a socket to be handed over."""


class Confined:
    """A folder with the script to be started, and the socket that `confined_inside.py` speaks over."""

    def __init__(self, tier: Tier, command: Sequence[str], policy: SandboxPolicy, shown: Sequence[str] = ()) -> None:
        """Write the script, which adds its own arguments to `command`; `shown` of the host is there, read-only.

        Of the policy, memory, processes and CPUs count. ImportError or OSError without libseccomp.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="turnwise-confined-")
        folder = Path(self._folder.name)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._door.bind(str(folder / "door"))
        self._door.listen(1)
        self._link: socket.socket | None = None
        self._asking = asyncio.Lock()
        self.script = folder / "program"
        self.script.write_text(_script(folder, tier, command, shown))
        self.script.chmod(0o700)
        self._cgroup = make(policy) if tier is Tier.BUBBLEWRAP else None

    async def let_begin(self) -> None:
        """Once the script was started, limit what it starts, and let the program begin."""
        loop = asyncio.get_running_loop()
        self._link, _ = await loop.sock_accept(self._door)
        if self._cgroup is not None:
            size = struct.calcsize("3i")
            peer, _, _ = struct.unpack("3i", self._link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
            self._cgroup.add(peer)
        await loop.sock_sendall(self._link, b"x")

    async def listener(self) -> socket.socket:
        """Return a new socket that listens on the program's loopback; OSError if the program is gone."""
        if self._link is None:
            raise OSError("the program has not begun")
        async with self._asking:
            await asyncio.get_running_loop().sock_sendall(self._link, b"x")
            return await asyncio.to_thread(_received, self._link.dup())

    @property
    def is_alive(self) -> bool:
        """Whether the program is there still, but for a moment."""
        if self._link is None:
            return False
        try:
            return bool(self._link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """End the program, if it has not ended, and leave nothing; may be called twice."""
        for end in (self._link, self._door):
            if end is not None:
                end.close()
        self._folder.cleanup()
        if self._cgroup is not None:
            self._cgroup.remove()


def _received(link: socket.socket) -> socket.socket:
    with link:
        link.settimeout(ANSWER_S)
        data, numbers, _, _ = socket.recv_fds(link, 1, 1)
    if not data or not numbers:
        raise OSError("the program is gone")
    listener = socket.socket(fileno=numbers[0])
    listener.setblocking(False)
    return listener


def _script(folder: Path, tier: Tier, command: Sequence[str], shown: Sequence[str]) -> str:
    python = f"{interpreter()}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if tier is not Tier.BUBBLEWRAP:
        words = [python, "-I", "-S", str(INSIDE), str(folder / "door"), "0", *command]
        return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    (folder / "filter").write_bytes(program())
    uid = drawn_uid() if os.geteuid() == 0 else 0
    words = [*_namespaces(folder, uid, shown), "--", python, "-I", "-S", "/run/inside.py", "/run/door", str(uid)]
    return f'#!/bin/sh\nexec {shlex.join([*words, *command])} "$@" 9<{shlex.quote(str(folder / "filter"))}\n'


def _namespaces(folder: Path, uid: int, shown: Sequence[str]) -> list[str]:
    """Return bwrap's command line up to the program; descriptor 9 has the filter."""
    words = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup"]
    words += ["--new-session", "--die-with-parent", "--hostname", "sandbox", "--seccomp", "9", "--cap-drop", "ALL"]
    words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if uid else ["--unshare-user", "--uid", str(AGENT)]
    words += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"]
    words += ["--perms", "1777", "--tmpfs", "/tmp", "--ro-bind", "/usr", "/usr"]
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for name in (*FROM_HOST, *shown, str(interpreter())):
        words += [] if name.startswith("/usr/") else ["--ro-bind-try", name, name]
    words += ["--ro-bind", str(folder / "door"), "/run/door", "--ro-bind", str(INSIDE), "/run/inside.py"]
    words += ["--remount-ro", "/", "--chdir", "/tmp", "--clearenv", "--setenv", "HOME", "/tmp"]
    return [*words, "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8"]
