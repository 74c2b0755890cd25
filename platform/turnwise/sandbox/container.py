"""What a container may do, as the daemon's API wants it said. Pure: a policy in, a configuration out.

No policy makes it privileged, gives it a network, a device, a socket or a capability, or leaves a limit out; a test
draws policies and looks. `/tmp` and `/dev/shm` run no programs, as Docker has it; the workspace does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.sandbox import Tier
from turnwise.sandbox.cgroup import Kernel, memory_bytes
from turnwise.sandbox.policy import MIB, TMP_MB, SandboxPolicy
from turnwise.sandbox.seccomp import profile

RUNTIMES = {Tier.GVISOR: "runsc", Tier.DOCKER: "runc"}

SERVER_FILES = 64
"""Open files that the first process may have, whatever the policy leaves to commands."""

OOM_SCORE = 500
"""How much rather than the machine's own processes the kernel ends this one, where memory runs out."""


def gvisor_kernel(policy: SandboxPolicy) -> Kernel:
    """Return what gVisor takes for itself: its memory, its threads, and a process of the host's for each inside."""
    return Kernel(memory_mb=96, processes=4 * policy.processes + 512)


def configuration(
    policy: SandboxPolicy,
    tier: Tier,
    *,
    image: str,
    command: Sequence[str],
    uid: int,
    labels: Mapping[str, str],
    shown: Mapping[str, str],
    volumes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the body of the request that creates the container.

    `shown`: folders of the host, by their place inside, read-only. `volumes`: folders that the image wants on disk;
    they lie in memory, with a size, instead.
    """
    return {
        "Image": image,
        "Entrypoint": list(command),
        "Cmd": [],
        "User": f"{uid}:{uid}",
        "WorkingDir": policy.workspace,
        "Hostname": "sandbox",
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},  # no commands of the image's own
        "StopSignal": "SIGKILL",
        "Labels": dict(labels),
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,  # it closes when we do
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _host(policy, tier, uid, shown, volumes),
    }


def _host(
    policy: SandboxPolicy, tier: Tier, uid: int, shown: Mapping[str, str], volumes: Sequence[str]
) -> dict[str, Any]:
    kernel = gvisor_kernel(policy) if tier is Tier.GVISOR else Kernel(memory_mb=0, processes=0)
    memory = memory_bytes(policy) + kernel.memory_mb * MIB
    files = max(policy.files, SERVER_FILES)
    return {
        "AutoRemove": True,
        "RestartPolicy": {"Name": "no"},
        "Runtime": RUNTIMES[tier],
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={profile()}"],
        "NetworkMode": "none",
        "IpcMode": "private",
        "ReadonlyRootfs": True,
        "Tmpfs": _tmpfs(policy, uid, volumes),
        "ShmSize": TMP_MB * MIB,
        "Mounts": [_bind(source, target) for target, source in shown.items()],
        "Devices": [],
        "Memory": memory,
        "MemorySwap": memory,  # with no swap beside
        "NanoCpus": int(min(policy.cpus, os.cpu_count() or 1) * 10**9),
        "PidsLimit": policy.processes + 2 + kernel.processes,
        "Ulimits": [_ulimit("core", 0), _ulimit("nofile", files), _ulimit("memlock", 0)],
        "OomScoreAdj": OOM_SCORE,
        "LogConfig": {"Type": "none", "Config": {}},  # what it says goes to us, not onto the disk
    }


def _tmpfs(policy: SandboxPolicy, uid: int, volumes: Sequence[str]) -> dict[str, str]:
    open_to_all = f"size={TMP_MB * MIB},mode=1777"
    return {
        **dict.fromkeys(volumes, f"rw,noexec,nosuid,nodev,{open_to_all}"),
        policy.workspace: f"rw,exec,nosuid,nodev,size={policy.disk_mb * MIB},mode=0755,uid={uid},gid={uid}",
        "/tmp": f"rw,noexec,nosuid,nodev,{open_to_all}",
        "/sys": "ro,noexec,nosuid,nodev,size=4096,mode=0555",  # the machine's own is not to be seen
    }


def _bind(source: str, target: str) -> dict[str, Any]:
    # what is mounted below would not be read-only, and stays away
    options = {"Propagation": "rprivate", "NonRecursive": True}
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True, "BindOptions": options}


def _ulimit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}
