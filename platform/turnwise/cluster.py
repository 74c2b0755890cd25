"""Starts or joins Ray, quietly and safely, and leaves nothing running.

`connect` is the one door: training and evaluation hold it open while they have actors. A cluster started here listens
on loopback only and asks for a token; one that is joined must ask for a token too unless it is on this machine.
`check_cluster` finds a port in use or an address that does not answer before anything is started.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnwise.config.schema import RayConfig
from turnwise.errors import UserError
from turnwise.processes import end_processes, start_reaper

LOOPBACK = "127.0.0.1"
PROBE_S = 20.0
"""Seconds that a cluster has to answer."""

NO_CLUSTER = "start the cluster, correct the address, or leave it out to start one here"
"""The remedy where none answers."""

END_S = 10.0
"""Seconds that the processes of our own cluster have to end by themselves."""

_MARK = "TURNWISE_CLUSTER"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}
_LOCAL_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": every socket of the cluster on loopback, as on those systems
_MAX_SMALL_STORE_BYTES = 512 * 2**20
_SMALL_MACHINE_BYTES = 32 * 2**30

_PROBE = """
import sys
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient
address = canonicalize_bootstrap_address_or_die(sys.argv[1])
GcsClient(address=address).get_all_node_info(timeout=5)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What we are connected to."""

    address: str  # host:port of its control service
    dashboard_url: str | None
    is_ours: bool  # started by `connect`, and ended by it


@contextmanager
def connect(
    config: RayConfig, say: Callable[[str], object] = print, *, has_answered: bool = False
) -> Iterator[Cluster]:
    """Start or join a cluster for the time of the `with`; UserError if that is impossible.

    Without `ray.address`, RAY_ADDRESS (set within a Ray job) names the cluster to join. `say` is told the
    dashboard's URL. `has_answered`: as for `check_cluster`, which was called a moment ago.
    """
    check_cluster(config, has_answered=has_answered)
    address = address_of(config)
    mark = f"{_MARK}={secrets.token_hex(8)}"
    reaper = start_reaper(mark, END_S) if address is None else None
    try:
        cluster = _join(address) if address is not None else _start(config, mark)
        if cluster.dashboard_url is not None:
            say(f"Ray dashboard: {cluster.dashboard_url} (its token: {token_path()})")
        yield cluster
    finally:
        _leave(mark if address is None else None)
        if reaper is not None and reaper.stdin is not None:
            reaper.stdin.close()
            reaper.wait()


def check_cluster(config: RayConfig, *, has_answered: bool = False) -> None:
    """Raise UserError for a dashboard port in use, an address that does not answer, or a cluster open to anyone.

    Of a cluster that has just answered only the port is tried again: to ask it takes a process, and a second.
    """
    address = address_of(config)
    if address is None:
        if config.dashboard:
            check_port("ray.dashboard_port", config.dashboard_port)
        return
    if address.startswith("ray://"):
        remedy = "give host:port, or send the run there with `turnwise submit`"
        raise UserError("ray.address", address, "Ray Client is not supported", remedy)
    _check_token_is_asked(address)
    if not has_answered:
        _probe(address)
    elif address != "auto":
        _check_reachable(address)


def address_of(config: RayConfig) -> str | None:
    """Return the address of the cluster to join; None if one is to be started."""
    return config.address or os.environ.get("RAY_ADDRESS") or None


def check_port(field: str, port: int) -> None:
    """Raise UserError naming `field` if something listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            remedy = "choose another port, or set ray.dashboard=false"
            raise UserError(field, port, f"the port cannot be used ({error.strerror})", remedy) from None


def actor_env(threads: int = 1) -> dict[str, str]:
    """Return environment variables for an actor that computes with `threads` CPU threads; never secrets.

    They keep OpenMP from spinning, and glibc from giving large blocks back after every batch (both cost a factor of
    five in throughput where they were measured).
    """
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1),
        "MALLOC_TOP_PAD_": str(64 * 2**20),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def token_path() -> Path:
    """Return the file that holds the clusters' token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def protect_token() -> None:
    """Make sure that there is a token (Ray itself would make a file that others can read) and that it is private."""
    path = token_path()
    if not path.exists() and "RAY_AUTH_TOKEN" not in os.environ:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return protect_token()
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
    if path.exists() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return None


def _start(config: RayConfig, mark: str) -> Cluster:
    protect_token()
    for name, value in {**_QUIET, _MARK: mark.partition("=")[2], _LOCAL_ONLY: "0"}.items():
        os.environ[name] = value
    import ray

    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # what _LOCAL_ONLY means if ray is imported already
    _silence()
    context = ray.init(
        address="local",
        num_cpus=config.num_cpus,
        include_dashboard=config.dashboard,
        dashboard_host=LOOPBACK,
        dashboard_port=config.dashboard_port if config.dashboard else None,
        object_store_memory=_object_store_bytes(),
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace="turnwise",
    )
    cluster = _described(context, is_ours=True)
    _check_is_closed(cluster)
    return cluster


def _join(address: str) -> Cluster:
    os.environ.update(_QUIET)
    import ray
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    AuthenticationTokenLoader.instance().reset_cache()  # what was read before may be another cluster's
    if "RAY_AUTH_MODE" not in os.environ and _token_mode():
        os.environ.update(_token_mode())
        Config.initialize("")
    _silence()
    namespace = f"turnwise-{secrets.token_hex(4)}"  # names such as learner:0 are one run's own
    context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace=namespace)
    return _described(context, is_ours=False)


def _token_mode() -> dict[str, str]:
    """Return what makes a client send its token, which it does not by itself; nothing where there is no token."""
    return {"RAY_AUTH_MODE": "token"} if token_path().exists() or "RAY_AUTH_TOKEN" in os.environ else {}


def _leave(mark: str | None) -> None:
    ray: Any = sys.modules.get("ray")
    if ray is not None:
        ray.shutdown()
    if mark is not None and ray is not None:
        end_processes(mark, END_S)
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = True
        for name in (_MARK, _LOCAL_ONLY):
            os.environ.pop(name, None)


def _described(context: Any, *, is_ours: bool) -> Cluster:
    url = context.dashboard_url
    return Cluster(
        address=context.address_info["gcs_address"],
        dashboard_url=f"http://{url}" if url else None,
        is_ours=is_ours,
    )


def _check_is_closed(cluster: Cluster) -> None:
    """Refuse a cluster of ours that others could use: it must ask for a token, or listen on loopback only."""
    is_loopback = cluster.address.startswith(f"{LOOPBACK}:")
    raylet: Any = importlib.import_module("ray._raylet")
    if not is_loopback and raylet.get_authentication_mode() != raylet.AuthenticationMode.TOKEN:
        problem = f"the cluster at {cluster.address} would run anyone's code"
        raise UserError("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", ""), problem, "unset it or set it to token")


def _check_token_is_asked(address: str) -> None:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    host = address.rpartition(":")[0]
    if mode.lower() != "token" and host not in (LOOPBACK, "localhost"):
        problem = f"the cluster at {address} would run anyone's code"
        raise UserError("RAY_AUTH_MODE", mode, problem, "unset it or set it to token, there and here")


def _probe(address: str) -> None:
    """Ask the cluster for its nodes, in a process of its own: Ray's client would wait for minutes."""
    remedy = NO_CLUSTER
    if address != "auto":
        _check_reachable(address)
    started = time.monotonic()
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            env={**_token_mode(), **os.environ},
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        waited = f"{time.monotonic() - started:.0f} s"
        raise UserError("ray.address", address, f"no Ray cluster answered within {waited}", remedy) from None
    if answer.returncode != 0:
        if "RAY_AUTH_TOKEN" in answer.stderr:
            problem, remedy = "the cluster refuses our token", f"put its token into {token_path()}"
        else:
            problem = f"cannot be joined ({(answer.stderr.strip().splitlines() or ['no reason given'])[-1][:200]})"
        raise UserError("ray.address", address, problem, remedy)


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError("ray.address", address, "is not host:port", "write it as host:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S / 2).close()
    except (OSError, OverflowError) as error:
        raise UserError("ray.address", address, f"cannot be reached ({error})", NO_CLUSTER) from None


def _silence() -> None:
    for name in ("ray", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _object_store_bytes() -> int | None:
    """Return a modest size on a small machine, so that nothing swaps; None leaves it to Ray."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else memory
    if memory > _SMALL_MACHINE_BYTES and shared > memory // 4:
        return None
    return max(80 * 2**20, min(_MAX_SMALL_STORE_BYTES, int(0.8 * shared)))
