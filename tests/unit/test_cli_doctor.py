"""`turnwise doctor` says what is there, what is not, and what to do."""

import json
from pathlib import Path

import pytest

from turnwise.cli import run_command
from turnwise.cli.machine import Finding, Status, check_packages, check_ray_safety, check_sandboxes


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_the_report_as_json_names_every_part_with_status_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["doctor", "--json"])
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert code == int(any(each["status"] == "failed" for each in findings.values()))
    assert findings["python"]["status"] == findings["torch"]["status"] == findings["ray"]["status"] == "ok"
    assert {
        "GPU",
        "Docker",
        "gVisor",
        "bubblewrap",
        "Podman",
        "cgroup",
        "shared memory",
        "free disk",
    } <= findings.keys()
    assert all(each["remedy"] for each in findings.values() if each["status"] != "ok")


def test_the_table_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["doctor"])
    assert "bubblewrap" in capsys.readouterr().out


def test_a_package_out_of_range_is_fatal_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=99", "no-such-package>=1", "typer"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: wanted)
    found = by_name(check_packages())
    assert found["numpy"].status is found["no-such-package"].status is Status.FAILED
    assert found["numpy"].remedy == 'pip install "numpy>=99"'
    assert found["typer"].status is Status.OK


def test_docker_that_does_not_answer_is_missing_and_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    found = by_name(check_sandboxes())
    assert found["Docker"].status is Status.MISSING
    assert "DOCKER_HOST" in found["Docker"].remedy
    assert found["gVisor"].status is Status.MISSING


def test_a_token_that_others_can_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = by_name(check_ray_safety())
    assert found["Ray token"].status is Status.WARNING
    assert found["Ray token"].remedy == f"chmod 600 {token}"
    assert found["Ray authentication"].status is Status.WARNING
