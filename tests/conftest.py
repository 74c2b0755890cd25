"""A Docker daemon for tests that ask for one; and the end of the process of the tests.

It ends with their verdict, past the interpreter's teardown, where Ray was in it.

After flow and unit tests in one process, that teardown crashed in two of four whole runs, when everything had passed: a
thread of some native library ran into memory that was gone. Which one is not known; either alone has never done it.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

import pytest

import private_docker
from turnwise.sandbox import SandboxLost
from turnwise.sandbox.daemon import Daemon, host, unreachable
from turnwise.sandbox.images import build_base
from turnwise.sandbox.podman import USER_VARIABLE, build_base_for_podman

VERDICT = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[VERDICT] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")  # of pytest-xdist, which ends by itself
    if "ray" in sys.modules and VERDICT in config.stash and not is_worker:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[VERDICT])


@pytest.fixture(scope="session")
def docker_host() -> Iterator[str | None]:
    """Return where a daemon with a base image answers: the machine's, or else one of our own; None where none can."""
    if unreachable() is None:
        name, is_new = build_base(Daemon(host()))
        yield host()
        if is_new:
            Daemon(host()).api.remove_image(name)
    elif private_docker.missing():
        yield None
    else:
        with private_docker.private_docker() as docker:
            build_base(Daemon(docker.host))
            yield docker.host


@pytest.fixture
def containers(docker_host: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sandboxes of this test be containers, where a daemon can be had."""
    if docker_host is not None:
        monkeypatch.setenv("DOCKER_HOST", docker_host)


@pytest.fixture(scope="session")
def podman_base() -> str:
    """Have the base image for Podman; return the ordinary user that root starts it as, if one is named."""
    user = os.environ.get("TURNWISE_TEST_PODMAN_USER", "")
    if os.geteuid() != 0 or user:
        with contextlib.suppress(SandboxLost), pytest.MonkeyPatch.context() as patch:
            patch.setenv(USER_VARIABLE, user)
            build_base_for_podman()
    return user


@pytest.fixture
def podman(podman_base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sandboxes of this test be Podman's, where that can be had."""
    if podman_base:
        monkeypatch.setenv(USER_VARIABLE, podman_base)
