"""One Ray cluster for all flow tests that train: started by a process of its own, joined by each run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import ray

_HOST = """
import sys
from turnwise.cluster import connect
from turnwise.config.schema import RayConfig
with connect(RayConfig(dashboard=False, num_cpus=4)) as cluster:
    print("ADDRESS", cluster.address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def cluster_host() -> Iterator[str]:
    host = subprocess.Popen([sys.executable, "-c", _HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
