"""A Docker daemon of one's own, for tests and benchmarks: its own socket, data and containerd, ended by its id.

It needs root, `dockerd` and nothing of the network: no bridge, no rule of the firewall. With `runsc` on the machine it
has gVisor's runtime, of which the limits are Docker's (`runsc`), and one that ignores control groups, as is common
where they cannot be had (`ignore_cgroups=True`). A killed parent takes it along.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from turnwise.sandbox.daemon import daemon, unreachable
from turnwise.sandbox.images import build_base

START_S = 60.0
END_S = 30.0


def missing() -> str | None:
    """Return why none can be started."""
    if os.geteuid() != 0:
        return "a Docker daemon needs root"
    lacking = [name for name in ("dockerd", "containerd", "runc", "setpriv") if shutil.which(name) is None]
    return f"no {', '.join(lacking)} on PATH; install docker.io" if lacking else None


class PrivateDocker:
    """One daemon; `host` is what DOCKER_HOST has to say."""

    def __init__(self, folder: Path, *, ignore_cgroups: bool = False, data: Path | None = None) -> None:
        """Start it and wait until it answers; `data` is where images and containers lie."""
        self.folder, self.host = folder, f"unix://{folder}/docker.sock"
        options = ["--network=none", "--platform=ptrace"] + ["--ignore-cgroups"] * ignore_cgroups
        runtimes = {"runsc": {"path": shutil.which("runsc"), "runtimeArgs": options}} if shutil.which("runsc") else {}
        (folder / "daemon.json").write_text(json.dumps({"runtimes": runtimes}), encoding="utf-8")
        self._words = ["dockerd", "--host", self.host, "--data-root", str(data or folder / "data")]
        self._words += ["--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")]
        self._words += ["--config-file", str(folder / "daemon.json"), "--bridge", "none", "--iptables=false"]
        self._words += ["--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        self.start()

    def start(self, attempts: int = 3) -> None:
        """Start it, again after an end, and wait until it answers; a busy machine may take more than one attempt."""
        for file in (self.folder / "pid", self.folder / "exec" / "containerd" / "containerd.pid"):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.end()
                if attempts > 1:
                    return self.start(attempts - 1)
                raise OSError("the daemon did not start: " + (self.folder / "log").read_text(errors="replace")[-500:])
            time.sleep(0.1)
        return None

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal; its containers end with it, but not with SIGKILL."""
        self.process.send_signal(number)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._end_containerd()

    def _end_containerd(self) -> None:
        """End what a killed daemon leaves; it ends by itself, but later."""
        with contextlib.suppress(OSError, ValueError):
            left = int((self.folder / "exec" / "containerd" / "containerd.pid").read_text(encoding="ascii"))
            held = os.pidfd_open(left)
            try:
                if str(self.folder) in Path(f"/proc/{left}/cmdline").read_text(encoding="utf-8"):
                    signal.pidfd_send_signal(held, signal.SIGKILL)
                    select.select([held], [], [], END_S)
            finally:
                os.close(held)

    def clear(self) -> None:
        """Take away what a killed daemon leaves: the processes that held its containers, and mounts."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if b"containerd-shim" in words and f"{self.folder}/".encode() in words:
                    os.kill(int(entry.name), signal.SIGKILL)
        for line in reversed(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
            if line.split(" ")[1].startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", line.split(" ")[1]], check=False, capture_output=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(self.host.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.0 200")
        return False


@contextlib.contextmanager
def private_docker(*, ignore_cgroups: bool = False) -> Iterator[PrivateDocker]:
    """Start one in a folder of its own, and leave nothing of it."""
    folder = Path(tempfile.mkdtemp(prefix="turnwise-docker-"))
    docker = None
    try:
        docker = PrivateDocker(folder, ignore_cgroups=ignore_cgroups)
        yield docker
    finally:
        if docker is not None:
            if docker.process.poll() is None:
                docker.end()
            docker.clear()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def docker_here() -> Iterator[None]:
    """Have DOCKER_HOST say where a daemon with a base image answers, if there is one or one can be started."""
    if unreachable() is None or missing():
        yield
        return
    with private_docker() as docker:
        os.environ["DOCKER_HOST"] = docker.host
        build_base(daemon())
        yield
