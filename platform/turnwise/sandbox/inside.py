"""The program that serves one sandbox from inside: it runs commands, reads and writes files, says what became of it.

Started as the first process of the sandbox, alone in a file with Python's standard library, and spoken to over its
standard input and output: four bytes of length, a JSON header, and `size` bytes behind it, both ways. As process 1 it
cannot be killed from inside, and not be traced; a command that ends takes everything with it that it started.

It may be lied to by what it runs, and nobody outside believes more of it than bytes, numbers and a few words.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import io
import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import tarfile
import time
from collections.abc import Callable
from typing import Any

Header = dict[str, Any]
Answer = tuple[Header, bytes | memoryview]

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522
CHUNK = 65536
DRAIN_S = 0.2  # for what a pipe still holds once the command has ended
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe of the workspace's does not hold us up
WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # beside the workspace
SHARED = ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg")
WINDOW = 4 * CHUNK  # bytes of a connection that may be under way, as in `streams.py`
MAX_TUNNELS = 16
MAKE = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC


class Refused(Exception):  # noqa: N818
    """A file that cannot be read or written; the reason is a word of `Reason`."""


def main() -> None:
    """Serve until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first process gets no signal from inside that it does not handle
    settings = json.loads(sys.argv[1])
    become_user(settings["uid"])
    deny(settings["denied"])
    close_others()
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    os.chdir(settings["workspace"])
    known = {**settings, "requests": requests, "replies": replies, "fresh": state(settings["workspace"])}
    while (request := receive(requests, settings["silence_s"])) is not None:
        header, data = request
        if "stream" in header:  # of a command that has ended
            continue
        try:
            answer, payload = ANSWERS[header["op"]](header, data, known)
        except Refused as error:
            answer, payload = {"refused": str(error)}, b""
        send(replies, answer, payload)


def become_user(uid: int | None) -> None:
    """Give up being root for good, if we are, with every capability, and be beyond what commands can trace."""
    library = ctypes.CDLL(None)
    if uid is not None:
        os.setgroups([])
        for number in range(64):
            library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        library.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), bytes(24))
    library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def deny(program: str | None) -> None:
    """Install a filter of system calls, for us and all that we start, where whoever started us did not."""
    if program is not None:
        library, code = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(base64.b64decode(program))
        told = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(code))
        library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, told, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no filter of system calls")


def close_others() -> None:
    """Close what was left open by whoever started us; what is opened from here on, no command inherits."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(name))


def receive(descriptor: int, silence_s: float | None) -> tuple[dict[str, Any], bytes] | None:
    """Return the next header and its bytes; None at the end, or after so much silence."""
    while select.select([descriptor], [], [], silence_s)[0]:
        message = take(descriptor)
        if message is None or message[0]:
            return message
    return None


def take(descriptor: int) -> tuple[dict[str, Any], bytes] | None:
    """Return one message: a header and its bytes, both empty for one that only breaks the silence; None at the end."""
    length = exactly(descriptor, 4)
    if length == bytes(4):
        return {}, b""
    head = exactly(descriptor, struct.unpack(">I", length)[0]) if length else None
    if head is None:
        return None
    header = json.loads(head)
    data = exactly(descriptor, header["size"])
    return None if data is None else (header, data)


def exactly(descriptor: int, size: int) -> bytes | None:
    """Return that many bytes, or None where the other end has closed."""
    parts = []
    while size:
        part = os.read(descriptor, min(size, CHUNK))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def send(descriptor: int, header: Header, payload: bytes | memoryview) -> None:
    """Write one message."""
    head = json.dumps({**header, "size": len(payload)}).encode()
    for part in (struct.pack(">I", len(head)) + head, payload):  # not joined: it may be large
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def run(header: Header, stdin: bytes, settings: Header) -> Answer:
    """Run a command to its end or its deadline."""
    began = time.monotonic()
    is_reached = "proxy" in header or "talks" in header
    tunnels = Tunnels(header.get("proxy"), settings["requests"], settings["replies"]) if is_reached else None
    ends = tunnels.ends() if tunnels is not None and "talks" in header else []
    try:
        pid, pipes = started(header, settings, ends)
    except OSError as error:
        if tunnels is not None:
            tunnels.close()
        said = f"sandbox: {error.strerror}\n".encode()  # no process more to be had
        return {"code": 126, "num": [0, len(said)], "kept": [0, len(said)], "seconds": 0.0}, said
    output = Output(pipes, stdin, header["output_bytes"], settings["requests"], tunnels)
    status = waited(pid, output, began + header["deadline_s"], -1 if settings["is_alone"] else pid)
    end_everything(pid, settings)
    if tunnels is not None:
        tunnels.close()
    output.drain(DRAIN_S)
    output.close()
    code = None if status is None else os.waitstatus_to_exitcode(status)
    kept = [bytes(part) for part in output.kept]
    answer = {"code": code, "num": output.num, "kept": [len(part) for part in kept]}
    return {**answer, "seconds": time.monotonic() - began}, b"".join(kept)


def started(header: Header, settings: Header, ends: list[socket.socket]) -> tuple[int, tuple[int, int, int]]:
    """Return the command's process id and our ends of its three pipes; `ends` take the place of its first two."""
    (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (os.pipe() for _ in range(3))
    try:
        pid = os.fork()
    except OSError:
        for number in (theirs_in, ours_in, ours_out, theirs_out, ours_err, theirs_err):
            os.close(number)
        raise
    if pid == 0:
        try:
            theirs = [end.fileno() for end in ends] or [theirs_in, theirs_out]
            become(header, settings, (*theirs, theirs_err))
        except BaseException as error:  # noqa: BLE001 - nothing may return from here
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(127)
    for number in (theirs_in, theirs_out, theirs_err):
        os.close(number)
    for end in ends:
        end.close()
    for number in (ours_in, ours_out, ours_err):
        os.set_blocking(number, False)
    return pid, (ours_in, ours_out, ours_err)


def become(header: Header, settings: Header, descriptors: tuple[int, ...]) -> None:
    """Turn this process into the command."""
    os.setsid()
    if not settings["is_alone"]:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for target, number in enumerate(descriptors):
        os.dup2(number, target)
    os.chdir(header["cwd"])
    for name, value in settings["limits"].items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(header["argv"][0], header["argv"], {**settings["env"], **header["env"]})


class Output:
    """The command's pipes: fed, emptied, and kept up to a size."""

    def __init__(
        self, pipes: tuple[int, int, int], stdin: bytes, most: int, requests: int, tunnels: Tunnels | None
    ) -> None:
        """Take our ends of the pipes, what to write, how much to keep of each output, and who must not go away."""
        self.input: int | None = pipes[0]
        self.rest, self.most = memoryview(stdin), most
        self.outputs = dict(zip(pipes[1:], (0, 1), strict=True))
        self.kept, self.num = [bytearray(), bytearray()], [0, 0]
        self.poll, self.requests, self.tunnels = select.poll() if tunnels is None else tunnels.poll, requests, tunnels
        if tunnels is None:
            self.poll.register(requests, 0)  # its end alone
        for number in self.outputs:
            self.poll.register(number, select.POLLIN)
        self._feed()

    def step(self, timeout_s: float) -> bool:
        """Wait for something to happen, at most that long, and take it; return whether something did."""
        ready = self.poll.poll(max(0.0, timeout_s) * 1000.0)
        for number, events in ready:
            if number == self.requests and not events & select.POLLIN:
                os._exit(0)  # nobody is there any more; all that runs here ends with us
            if number == self.input:
                self._feed()
            elif number in self.outputs:
                self._take(number)
            elif self.tunnels is not None:
                self.tunnels.step(number, events)
        return bool(ready)

    def drain(self, timeout_s: float) -> None:
        """Take what is still in the pipes."""
        self._close_input()
        until = time.monotonic() + timeout_s
        while self.outputs and time.monotonic() < until:
            self.step(until - time.monotonic())

    def close(self) -> None:
        """Close what is open."""
        self._close_input()
        for number in list(self.outputs):
            self._end(number)

    def _take(self, number: int) -> None:
        which = self.outputs[number]
        try:
            part = os.read(number, CHUNK)
        except BlockingIOError:
            return
        if not part:
            self._end(number)
            return
        self.num[which] += len(part)
        self.kept[which] += part[: self.most - len(self.kept[which])]

    def _feed(self) -> None:
        assert self.input is not None
        try:
            while self.rest:
                self.rest = self.rest[os.write(self.input, self.rest[:CHUNK]) :]
        except BlockingIOError:
            self.poll.register(self.input, select.POLLOUT)
            return
        except OSError:  # it does not read
            pass
        self._close_input()

    def _close_input(self) -> None:
        if self.input is not None:
            with contextlib.suppress(KeyError):
                self.poll.unregister(self.input)
            os.close(self.input)
            self.input = None

    def _end(self, number: int) -> None:
        self.poll.unregister(number)
        os.close(number)
        del self.outputs[number]


class Tunnels:
    """The way out of one command: connections to a port of our own loopback, carried on by who sent the request.

    The first two are its input and output, where it is talked to; without a port there are no others. `streams.py` says
    what the messages are, and checks what we say; what it says, we believe.
    """

    def __init__(self, port: int | None, requests: int, replies: int) -> None:
        """Listen, so that the command finds the port open; `poll` wakes for all that there is to be done."""
        self.requests, self.replies, self.last = requests, replies, 0
        self.by_socket: dict[int, Tunnel] = {}
        self.by_number: dict[int, Tunnel] = {}
        self.poll = select.poll()
        self.poll.register(requests, select.POLLIN)
        if port is None:
            self.listener = socket.socket()
            self.listener.close()  # as it is once no more may come
        else:
            self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
            self.listener.setblocking(False)
            self.poll.register(self.listener, select.POLLIN)

    def ends(self) -> list[socket.socket]:
        """Open a connection for a command's input and one for its output; return the command's ends."""
        pairs = [socket.socketpair() for _ in range(2)]
        for ours, _ in pairs:
            self._add(ours)
        return [theirs for _, theirs in pairs]

    def step(self, number: int, events: int) -> None:
        """Do what there is to be done at a descriptor."""
        if number == self.requests:
            self._obey()
        elif number == self.listener.fileno():
            self._accept()
        elif number in self.by_socket:
            tunnel = self.by_socket[number]
            try:
                tunnel.step(events)
            except OSError:
                self._say(tunnel.number, "end")
                self._close(tunnel)
            else:
                self._watch(tunnel)

    def close(self) -> None:
        """Close all; no message follows, and none is taken."""
        self._shut()
        self.poll.modify(self.requests, 0)

    def _obey(self) -> None:
        """Take one message from outside."""
        message = take(self.requests)
        if message is None:
            os._exit(0)
        header, data = message
        if not header:
            return
        if header["does"] == "shut":
            self._shut()
            return
        tunnel = self.by_number.get(header["stream"])
        if tunnel is None:
            return  # its end is on the way
        tunnel.pending += data
        tunnel.credit += header.get("count", 0)
        tunnel.is_over = tunnel.is_over or header["does"] == "end"
        self._watch(tunnel)

    def _shut(self) -> None:
        """Let no more come, and end what is open."""
        if self.listener.fileno() >= 0:
            if len(self.by_number) < MAX_TUNNELS:
                self.poll.unregister(self.listener)
            self.listener.close()
        for tunnel in list(self.by_number.values()):
            self._close(tunnel)

    def _accept(self) -> None:
        try:
            accepted, _ = self.listener.accept()
        except OSError:
            return
        self._add(accepted)
        if len(self.by_number) == MAX_TUNNELS:
            self.poll.unregister(self.listener)

    def _add(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.last += 1
        tunnel = Tunnel(connection, self.last, self._say)
        self.by_socket[connection.fileno()] = self.by_number[self.last] = tunnel
        self._say(self.last, "open")
        self.poll.register(connection, 0)
        self._watch(tunnel)

    def _watch(self, tunnel: Tunnel) -> None:
        """Wait for what it can do now; close it once it is over and all is passed on."""
        if tunnel.is_over and not tunnel.pending:
            self._close(tunnel)
        else:
            self.poll.modify(tunnel.socket, tunnel.wanted())

    def _close(self, tunnel: Tunnel) -> None:
        if len(self.by_number) == MAX_TUNNELS and self.listener.fileno() >= 0:
            self.poll.register(self.listener, select.POLLIN)
        self.poll.unregister(tunnel.socket)
        del self.by_socket[tunnel.socket.fileno()], self.by_number[tunnel.number]
        tunnel.socket.close()

    def _say(self, number: int, does: str, data: bytes = b"", **more: int) -> None:
        send(self.replies, {"stream": number, "does": does, **more}, data)


class Tunnel:
    """One connection of a command's."""

    def __init__(self, accepted: socket.socket, number: int, say: Callable[..., None]) -> None:
        """Take what was accepted, and how to speak of it."""
        self.socket, self.number, self.say = accepted, number, say
        self.credit, self.pending = WINDOW, bytearray()
        self.is_complete = self.is_over = False

    def wanted(self) -> int:
        """Return the events to wait for."""
        reads = self.credit > 0 and not self.is_complete and not self.is_over
        return (select.POLLIN if reads else 0) | (select.POLLOUT if self.pending else 0)

    def step(self, events: int) -> None:
        """Read and write; OSError if the connection is lost."""
        if events & select.POLLOUT and self.pending:
            num_sent = self.socket.send(self.pending[:CHUNK])
            del self.pending[:num_sent]
            self.say(self.number, "taken", count=num_sent)
        if events & select.POLLIN and self.credit > 0 and not self.is_complete:
            part = self.socket.recv(min(CHUNK, self.credit))
            self.credit -= len(part)
            self.is_complete = not part
            self.say(self.number, "data" if part else "eof", part)
        elif events & (select.POLLERR | select.POLLHUP):
            raise ConnectionError


def waited(pid: int, output: Output, until: float, whose: int) -> int | None:
    """Return the command's wait status, or None where the deadline came first; `whose` ends are taken, -1: all."""
    pause = 0.001
    while time.monotonic() < until:
        found, status = os.waitpid(whose, os.WNOHANG)
        if found == pid:
            return status
        if found:
            continue
        pause = 0.001 if output.step(min(pause, until - time.monotonic())) else min(2 * pause, 0.02)
    return None


def end_everything(pid: int, settings: Header) -> None:
    """Kill what the command left running, and reap it."""
    if not settings["is_alone"]:  # a plain process: its group is all that can be found
        kill(-pid)
        reap()
        return
    for _ in range(100):
        kill(-1)
        if not reap():
            return
        time.sleep(0.001)


def kill(target: int) -> None:
    """Send SIGKILL to whatever is left of it."""
    with contextlib.suppress(OSError):
        os.kill(target, signal.SIGKILL)


def reap() -> bool:
    """Return whether children are left that have not ended yet."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def read(header: Header, _: bytes, settings: Header) -> Answer:
    """Return a file's content."""
    with refusals():
        descriptor = os.open(header["path"], OPEN)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused("not a file")
            data = file.read(header["max_bytes"] + 1)
    if len(data) > header["max_bytes"]:
        raise Refused("too large")
    return {}, data


def write(header: Header, data: bytes, settings: Header) -> Answer:
    """Make or replace a file."""
    with refusals():
        folder = os.path.dirname(header["path"])
        if folder:
            os.makedirs(folder, exist_ok=True)
        descriptor = os.open(header["path"], MAKE, 0o666)
        with open(descriptor, "wb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused("not a file")
            file.truncate()
            file.write(data)
    return {}, b""


def pack(header: Header, _: bytes, settings: Header) -> Answer:
    """Return the workspace as a tar archive."""
    packed = Bounded(header["max_bytes"])
    with refusals(), tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted(os.listdir(".")):
            archive.add(name, filter=plain)
    return {}, packed.getbuffer()


class Bounded(io.BytesIO):
    """Bytes up to a size."""

    def __init__(self, most: int) -> None:
        """Take the size."""
        super().__init__()
        self.most = most

    def write(self, data: Any) -> int:
        """Write, or refuse."""
        if self.tell() + len(data) > self.most:
            raise Refused("too large")
        return super().write(data)


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Keep files, folders and links; sockets, pipes and devices stay behind."""
    return member if member.isfile() or member.isdir() or member.issym() or member.islnk() else None


def unpack(header: Header, data: bytes, settings: Header) -> Answer:
    """Make the workspace what the archive holds; nothing is touched if a name in it leads out.

    Links may lead anywhere in a sandbox, as they may without an archive; a plain process has Python's filter for data.
    """
    with refusals():
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive.getmembers():
                    if member.name.startswith("/") or ".." in member.name.split("/") or plain(member) is None:
                        raise Refused("denied")
                clear()
                archive.extractall(".", filter="fully_trusted" if settings["is_alone"] else "data")
        except tarfile.FilterError as error:
            raise Refused("denied") from error
        except tarfile.TarError as error:
            raise Refused("not a file") from error
    return {}, b""


def reset(header: Header, _: bytes, settings: Header) -> Answer:
    """Empty what commands can write to, and say whether all is as it was at the start."""
    if not settings["is_alone"]:
        raise Refused("denied")
    with refusals():
        for folder, (mode, _) in settings["fresh"]["folders"].items():
            os.chdir(folder)
            clear()
            with contextlib.suppress(OSError):
                os.chmod(".", mode)
    os.chdir(settings["workspace"])
    return {"is_clean": state(settings["workspace"]) == settings["fresh"]}, b""


def state(workspace: str) -> Header:
    """Return what a command could leave behind: files, segments of memory and the like, processes."""
    folders = [folder for folder in (*WRITABLE, workspace) if os.path.isdir(folder) and os.access(folder, os.W_OK)]
    shared = [path for path in SHARED if os.path.exists(path)]
    return {
        "folders": {folder: (stat.S_IMODE(os.stat(folder).st_mode), sorted(os.listdir(folder))) for folder in folders},
        "shared": [open(path).read().count("\n") for path in shared],
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    }


def clear() -> None:
    """Empty the folder that we are in, whatever its folders forbid."""
    for folder, names, _ in os.walk("."):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    for name in os.listdir("."):
        if os.path.isdir(name) and not os.path.islink(name):
            shutil.rmtree(name)
        else:
            os.unlink(name)


class refusals:  # noqa: N801
    """Turns the system's errors into refusals."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise `Refused` for an `OSError`."""
        if isinstance(error, OSError):
            raise Refused(REASONS.get(error.errno or 0, "denied")) from error
        if isinstance(error, ValueError):
            raise Refused("denied") from error
        if isinstance(error, MemoryError | RecursionError):
            raise Refused("too large") from error


REASONS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EISDIR: "not a file",
    errno.ENXIO: "not a file",
    errno.EEXIST: "not a file",
    errno.ENOSPC: "no space",
    errno.EDQUOT: "no space",
    errno.EFBIG: "no space",
}

ANSWERS: dict[str, Callable[[Header, bytes, Header], Answer]] = {
    "run": run,
    "read": read,
    "write": write,
    "pack": pack,
    "unpack": unpack,
    "reset": reset,
}


if __name__ == "__main__":
    main()
