"""One Ray cluster for all flow tests that train: started by a process of its own, joined by each run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._raylet import AuthenticationTokenLoader

PLUGIN = str(Path(__file__).parent / "plugin")
"""A package with scorers of the tests' own: on the path of this process, of the cluster, and so of all its workers."""

sys.path.append(PLUGIN)

SLOW_FIRST = ("test_sandbox_actor", "test_faults", "test_train", "test_submit", "test_env_init", "test_guided_training")
"""Modules that take minutes: begun first, so that at the end no worker waits long for another one."""

_HOST = """
import sys
from turnwise.cluster import connect
from turnwise.config.schema import RayConfig
with connect(RayConfig(dashboard=False, num_cpus=4)) as cluster:
    print("ADDRESS", cluster.address, flush=True)
    sys.stdin.read()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow modules."""
    items.sort(key=lambda item: SLOW_FIRST.index(item.path.stem) if item.path.stem in SLOW_FIRST else len(SLOW_FIRST))


@pytest.fixture(scope="module", autouse=True)
def no_memory_of_other_clusters() -> Iterator[None]:
    """Let every module begin without the token and the settings with which an earlier one joined a cluster."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    AuthenticationTokenLoader.instance().reset_cache()
    yield
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]
    os.environ.update(before)
    AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture(scope="session")
def cluster_host() -> Iterator[str]:
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), PLUGIN])
    env = {**os.environ, "PYTHONPATH": path}
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        line = next(line for line in host.stdout if line.startswith("ADDRESS"))
        yield line.split()[1]
    finally:
        host.stdin.close()
        host.wait(60)


@pytest.fixture(scope="module")
def cluster_address(cluster_host: str) -> str:
    """The address, once this process knows that the cluster listens on loopback only; other tests make it forget."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    return cluster_host
