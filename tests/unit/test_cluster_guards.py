"""What guards a cluster before it is started or joined; the cluster itself is in tests/flow."""

import socket
import stat
from pathlib import Path

import pytest

from turnwise import cluster
from turnwise.cluster import actor_env, address_of, check_cluster, protect_token, token_path
from turnwise.config.schema import RayConfig
from turnwise.errors import UserError


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    return path


def test_a_token_is_made_that_only_its_owner_reads(token: Path) -> None:
    protect_token()
    assert token_path() == token
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64


def test_a_token_that_is_there_is_kept_and_made_private(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("mine")
    token.chmod(0o644)
    protect_token()
    assert token.read_text() == "mine"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_a_token_in_the_environment_needs_no_file(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    protect_token()
    assert not token.exists()


def test_a_cluster_elsewhere_that_asks_for_no_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match=r"RAY_AUTH_MODE=disabled: .* would run anyone's code"):
        check_cluster(RayConfig(address="203.0.113.1:6379"))


def test_a_cluster_that_has_answered_is_not_asked_again_but_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(cluster, "_probe", asked.append)
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = RayConfig(address=f"127.0.0.1:{server.getsockname()[1]}")
        check_cluster(config)
        check_cluster(config, has_answered=True)
    assert asked == [config.address]
    with pytest.raises(UserError, match=r"cannot be reached .*; start the cluster"):
        check_cluster(config, has_answered=True)


def test_a_ray_job_joins_the_cluster_that_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "203.0.113.1:6379")
    assert address_of(RayConfig()) == "203.0.113.1:6379"
    assert address_of(RayConfig(address="auto")) == "auto"
    monkeypatch.delenv("RAY_ADDRESS")
    assert address_of(RayConfig()) is None


def test_actors_get_their_threads_and_no_secret() -> None:
    environment = actor_env(threads=3)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert all(isinstance(value, str) for value in environment.values())
    assert not [name for name in environment if "TOKEN" in name and name != "TOKENIZERS_PARALLELISM"]
