"""`turnwise submit` against a real Ray started here, on loopback and with a token, as `ray start --head` would be."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from turnwise.cli.submit import job_client, shippable_yaml, submit, submit_training
from turnwise.config import load_config
from turnwise.errors import UserError
from turnwise.processes import end_processes

START_S = 60.0
TOKEN = "0123456789abcdef" * 4

# Says what the job sees: where turnwise was imported from, which plug-ins it finds, and its resolved configuration.
PROBE = """
import sys, turnwise, turnwise.registry as registry
from importlib.metadata import entry_points
from turnwise.config import load_config
print("IMPORTED", turnwise.__file__)
print("ENTRIES", sorted({str(e.dist.locate_file("")) for e in entry_points(group=registry.GROUP)}))
print("PLUGINS", sorted(registry.load_plugins()))
print("AGENTS", registry.names("agent"))
print("SEED", load_config("config.yaml").config.seed)
"""


@dataclass(frozen=True)
class Head:
    """A running head node."""

    url: str
    token: Path
    home: Path  # where jobs put their runs


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))  # a socket's path has at most 107 characters
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    gcs, dashboard, agent, client = free_ports(4)
    mark = f"TURNWISE_TEST_HEAD={folder.name}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TURNWISE_TEST_HEAD": folder.name,
    }
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    command = ["-m", "ray.scripts.scripts", "start", "--head", "--block", *ports, f"--ray-client-server-port={client}"]
    limits = ["--num-cpus=1", "--object-store-memory=100000000", f"--temp-dir={folder}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, *limits, "--dashboard-host=127.0.0.1"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{dashboard}/api/jobs/", process, folder / "log")
        yield Head(url=f"http://127.0.0.1:{dashboard}", token=token, home=folder)
    finally:
        process.send_signal(signal.SIGTERM)
        end_processes(mark, grace_s=5.0)
        process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the job API answers, with 401 since no token is sent."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        except OSError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"no dashboard within {START_S} s: {log.read_text()}")


@pytest.fixture
def known_token(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    forget_cached_token()


def forget_cached_token() -> None:
    from ray._raylet import AuthenticationTokenLoader, Config

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


class Said:
    """Collects what would be printed."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, text: str, nl: bool = True) -> None:
        self.text += text + ("\n" if nl else "")


@pytest.mark.usefixtures("known_token")
def test_a_job_finds_turnwise_and_its_plugins_in_the_shipped_wheel(head: Head) -> None:
    said = Said()
    config = shippable_yaml(load_config(None, ["seed=1234"]))
    with job_client(head.url) as client:
        code = submit(client, config, f"python -c '{PROBE}'", wait=True, say=said)
    lines = dict(line.split(" ", 1) for line in said.text.splitlines() if line.split(" ", 1)[0].isupper())
    assert code == 0, said.text
    assert "py_modules" in lines["IMPORTED"]
    assert "py_modules" in lines["ENTRIES"]
    assert "turnwise_agents" in lines["PLUGINS"]
    assert "chat" in lines["AGENTS"]
    assert lines["SEED"] == "1234"


@pytest.mark.usefixtures("known_token")
def test_the_same_training_runs_as_a_job_and_its_folder_stays(head: Head) -> None:
    said = Said()
    small = ["name=small", "learner.updates=1", "learner.minibatches=1", "rollout.group_size=2", "rollout.slots=4"]
    small += ["rollout.groups_per_update=2", "engine.slots=8", "eval.tasks=0", "log.tensorboard=false"]
    assert submit_training(load_config(None, small), head.url, wait=True, say=said) == 0, said.text
    summary = json.loads((head.home / "runs" / "small" / "summary.json").read_text())
    assert (summary["status"], summary["updates"], summary["episodes"]) == ("finished", 1, 4)
    assert "finished after 1 updates" in said.text


@pytest.mark.usefixtures("known_token")
def test_the_exit_code_of_the_job_is_ours(head: Head) -> None:
    said = Said()
    with job_client(head.url) as client:
        assert submit(client, "", "echo one; sleep 1; echo two; exit 7", wait=True, say=said) == 7
    assert said.text.count("one\n") == 1
    assert said.text.count("two\n") == 1


@pytest.mark.usefixtures("known_token")
def test_the_log_is_followed_live_and_an_interrupt_stops_the_job(head: Head) -> None:
    started = time.monotonic()

    def interrupt(text: str, nl: bool = True) -> None:
        if "ready" in text:
            raise KeyboardInterrupt

    with job_client(head.url) as client:
        with pytest.raises(KeyboardInterrupt):
            submit(client, "", "echo ready; sleep 300", wait=True, say=interrupt)
        states = {job.status.value for job in client.list_jobs() if "sleep 300" in job.entrypoint}
    assert states == {"STOPPED"}
    assert time.monotonic() - started < 60


@pytest.mark.usefixtures("known_token")
def test_a_mistake_in_the_configuration_is_exit_code_2_on_the_cluster_too(head: Head) -> None:
    said = Said()
    with job_client(head.url) as client:
        entrypoint = "python -m turnwise train config.yaml"
        assert submit(client, "learner: {lrr: 1}\n", entrypoint, wait=True, say=said) == 2
    assert "learner.lrr=1: no such key; did you mean learner.lr?" in said.text


def test_a_wrong_token_is_refused_within_seconds(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(wrong))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    forget_cached_token()
    started = time.monotonic()
    with pytest.raises(UserError, match="refuses our token"), job_client(head.url):
        pass
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:8265", "http://no-such-host.invalid:8265"])
def test_an_address_that_does_not_answer_is_refused_within_seconds(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="--address"), job_client(address):
        pass
    assert time.monotonic() - started < 10


def test_a_dashboard_that_never_answers_is_refused_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot be reached"), job_client(address):
            pass
        assert time.monotonic() - started < 10


def test_a_secret_in_clear_is_not_shipped() -> None:
    with pytest.raises(UserError, match=r"oc\.env:NAME"):
        shippable_yaml(load_config(None, ["env.kwargs.api_key=SEKRET123"]))
