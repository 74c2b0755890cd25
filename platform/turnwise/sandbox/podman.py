"""The tier `podman`: a hardened container of an ordinary user's, without a daemon.

Rootless alone: in the container's namespace of users its root is this user, and its own user one of the range that
`/etc/subuid` gives. Where this process is root, Podman is started as the user that `TURNWISE_PODMAN_USER` names.
`podman run` is spoken to over pipes. When it ends, or its owner does, the container's input closes, and with that
`inside.py` ends.

Limits of the whole are Podman's where it may set them (version 2 of control groups, delegated); a group of ours where
this process is root; else limits of single processes. System calls are those that Podman allows, less what `inside.py`
denies itself and all that it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.cgroup import Cgroup, make, memory_bytes
from turnwise.sandbox.images import BUILD, Image, base_image, written_base
from turnwise.sandbox.labels import BASE, LEASE, new_labels
from turnwise.sandbox.link import PipeLink
from turnwise.sandbox.policy import MIB, TMP_MB, WORKSPACE, SandboxPolicy
from turnwise.sandbox.recipe import signature
from turnwise.sandbox.seccomp import program
from turnwise.sandbox.served import INSIDE, Served, limits, settings

USER_VARIABLE = "TURNWISE_PODMAN_USER"

FIRST_UID, NUM_UIDS = 1000, 60_000
"""Users within the range that a user has; one a sandbox, drawn anew."""

CALL_S = 60.0

REMOVALS = 3
"""Attempts to remove a container."""


@dataclass(frozen=True, slots=True)
class Podman:
    """How Podman is called, and whether it may limit a container as a whole."""

    words: tuple[str, ...]
    env: dict[str, str]
    has_limits: bool


class PodmanLink(PipeLink):
    """A process of `podman run`, and its container."""

    def __init__(self, process: asyncio.subprocess.Process, podman: Podman, name: str) -> None:
        """Take over the process."""
        super().__init__(process)
        self._podman, self._name = podman, name
        self.cgroup: Cgroup | None = None
        self._closing: asyncio.Task[str] | None = None

    def end(self) -> None:
        """Kill Podman's processes: there is another one, in the namespace of users."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> str:
        """Remove the container."""
        self.end()
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._removed())
        return await asyncio.shield(self._closing)

    async def _removed(self) -> str:
        how = await super().close()
        for _ in range(REMOVALS):
            with contextlib.suppress(SandboxLost):  # it is being removed, and Podman is at odds with itself
                words = ["rm", "--force", "--ignore", "--time", "0", self._name]
                await asyncio.to_thread(called, self._podman, words)
                break
        if self.cgroup is not None:
            await asyncio.to_thread(self.cgroup.remove)
        return how


def missing_podman(image: str) -> str | None:
    """Return why Podman cannot be used here, None if it can; `image` empty: the base image."""
    if image:
        return "it has this machine's own image alone; take Docker"
    if shutil.which("podman") is None:
        return "no podman on PATH; install podman, uidmap and runc or crun"
    if os.geteuid() == 0 and not os.environ.get(USER_VARIABLE):
        return f"this process is root, and Podman would be so too; set {USER_VARIABLE} to an ordinary user"
    try:
        program()
        podman = found()
        if find_base(podman) is None:
            return f"no base image; make it with {BUILD} --tier podman"
    except (ImportError, RuntimeError) as error:
        return f"no filter of system calls ({error}); install libseccomp2 and the package pyseccomp"
    except (SandboxLost, OSError) as error:
        return f"{' '.join(str(error).split())}; run podman info as this user"
    return None


def found() -> Podman:
    """Return Podman; SandboxLost if it does not work, or not rootless with users of its own."""
    return _found(os.environ.get(USER_VARIABLE, ""), os.geteuid())


@functools.cache
def _found(name: str, user: int) -> Podman:
    prefix: tuple[str, ...] = ()
    env = {key: os.environ[key] for key in ("PATH", "HOME", "XDG_RUNTIME_DIR") if key in os.environ}
    if user == 0:
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise SandboxLost(f"{USER_VARIABLE}={name} is no user here") from error
        prefix = ("setpriv", "--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--init-groups")
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": entry.pw_dir}
    podman = Podman((*prefix, "podman"), env, has_limits=False)
    info = json.loads(called(podman, ["info", "--format", "json"]))["host"]
    if not info["security"]["rootless"]:
        raise SandboxLost("Podman is not rootless here")
    if sum(each["size"] for each in info["idMappings"]["uidmap"] or []) < FIRST_UID + NUM_UIDS:
        raise SandboxLost("this user has no 65536 others in /etc/subuid and /etc/subgid, or there is no newuidmap")
    has_limits = info["cgroupVersion"] == "v2" and {"memory", "pids"} <= set(info["cgroupControllers"] or [])
    return Podman(podman.words, env, has_limits)


def find_base(podman: Podman) -> str | None:
    """Return the id of the newest base image of this machine's Python, None if there is none."""
    words = ["images", "--no-trunc", "--quiet", "--sort", "created", "--filter", f"label={BASE}={signature()}"]
    ids = called(podman, words).split()
    return ids[0] if ids else None


def build_base_for_podman() -> tuple[str, bool]:
    """Make the base image unless one with this content is there; return its name, and whether it was made."""
    podman = found()
    with written_base() as (file, name):
        is_new = not called(podman, ["images", "--quiet", name]).strip()
        if is_new:
            called(podman, ["import", "--change", f'LABEL {BASE}="{signature()}"', "-", name], stdin=file)
    return name, is_new


async def open_podman(policy: SandboxPolicy) -> Served:
    """Start a sandbox; `SandboxLost` if it does not come up."""
    podman = await asyncio.to_thread(found)
    base = await asyncio.to_thread(find_base, podman)
    if base is None:
        raise SandboxLost(f"the base image is gone: {BUILD} --tier podman")
    group = None if podman.has_limits or os.geteuid() != 0 else await asyncio.to_thread(make, policy)
    labels = new_labels(Tier.PODMAN.value)
    name = f"turnwise-{labels[LEASE]}"
    words = _words(podman, policy, name, labels, base_image(base), in_all=podman.has_limits or group is not None)
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
            env=podman.env,
            cwd="/",
            start_new_session=True,
            limit=MIB,
        )
        link = PodmanLink(process, podman, name)
        link.cgroup = group
        box = await Served(Tier.PODMAN, policy, link).begin(lambda: _text(said))
    if group is not None:
        try:
            await asyncio.to_thread(_join, podman, name, group)
        except BaseException as error:
            await box.close()
            if isinstance(error, OSError | ValueError):
                raise SandboxLost(f"the sandbox did not start (podman): {error}") from error
            raise
    return box


def _words(
    podman: Podman, policy: SandboxPolicy, name: str, labels: dict[str, str], image: Image, *, in_all: bool
) -> list[str]:
    """Return the command line; a test looks that no policy weakens it."""
    uid = FIRST_UID + secrets.randbelow(NUM_UIDS)
    private, size = "nosuid,nodev", TMP_MB * MIB
    words = [*podman.words, "run", "--rm", "--interactive", "--name", name, "--pull", "never", "--log-driver", "none"]
    words += ["--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ipc", "private"]
    words += ["--read-only", "--read-only-tmpfs=false", "--user", f"{uid}:{uid}", "--hostname", "sandbox", "--no-hosts"]
    words += ["--tmpfs", f"{WORKSPACE}:rw,exec,{private},size={policy.disk_mb * MIB},mode=1777"]
    words += ["--tmpfs", f"/tmp:rw,noexec,{private},size={size},mode=1777", "--shm-size", str(size)]
    words += ["--tmpfs", f"/sys:ro,noexec,{private},size=4096,mode=0555", "--workdir", WORKSPACE]
    words += ["--ulimit", "core=0:0", "--no-healthcheck", "--stop-timeout", "0"]
    for label, value in labels.items():
        words += ["--label", f"{label}={value}"]
    for path in policy.read_only:
        places = f"source={Path(path).resolve()},target={Path(path)}"
        words += ["--mount", f"type=bind,{places},ro=true,bind-nonrecursive=true"]
    if podman.has_limits:
        memory = str(memory_bytes(policy))
        words += ["--memory", memory, "--memory-swap", memory, "--cpus", str(min(policy.cpus, os.cpu_count() or 1))]
        words += ["--pids-limit", str(policy.processes + 2)]
    told = settings(WORKSPACE, limits(policy, in_all=in_all), image.env, is_alone=True, denied=program())
    return [*words, image.id, *image.python, "-I", "-S", "-c", INSIDE.read_text(encoding="utf-8"), told]


def _join(podman: Podman, name: str, group: Cgroup) -> None:
    """Put the container's first process into a group of ours."""
    group.add(int(called(podman, ["inspect", "--format", "{{.State.Pid}}", name])))


def called(podman: Podman, words: Sequence[str], stdin: Any = subprocess.DEVNULL) -> str:
    """Run Podman to its end and return what it wrote; SandboxLost if it fails."""
    try:
        done = subprocess.run(
            [*podman.words, *words],
            stdin=stdin,
            capture_output=True,
            text=True,
            env=podman.env,
            cwd="/",
            timeout=CALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxLost(f"Podman does not work here ({error})") from error
    if done.returncode != 0:
        raise SandboxLost(f"Podman does not work here ({' '.join(done.stderr.split())[-300:]})")
    return done.stdout


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return " ".join(said.read(2000).decode(errors="replace").split()) or "it said nothing"
