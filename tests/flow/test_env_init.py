import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnwise.cli.new_env import write_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package("my_game", tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables under which the package is installed beside Turnwise."""
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    _run([*install, "--target", str(target), str(package)], dict(os.environ))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])}


def _run(command: list[str], variables: dict[str, str], cwd: Path | None = None, said: str = "") -> str:
    ran = subprocess.run(
        command, env=variables, cwd=cwd, input=said, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_package_is_whole_and_holds_no_placeholder(package: Path) -> None:
    written = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    expected = {
        "pyproject.toml",
        "README.md",
        "train.yaml",
        "my_game/__init__.py",
        "my_game/env.py",
        "tests/test_env.py",
    }
    assert expected <= written
    assert not [path for path in expected if "@NAME@" in (package / path).read_text()]


def test_the_environment_is_under_forty_lines_of_code(package: Path) -> None:
    source = (package / "my_game" / "env.py").read_text()
    docs = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    code = [line for number, line in enumerate(source.splitlines(), 1) if line.strip() and number not in docs]
    assert 10 < len(code) < 40


def test_its_own_tests_pass_once_it_is_installed(package: Path, installed: dict[str, str]) -> None:
    printed = _run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], installed, cwd=package)
    assert "3 passed" in printed


def test_the_command_line_finds_it_and_plays_it(installed: dict[str, str], tmp_path: Path) -> None:
    cli = [sys.executable, "-c", "from turnwise.cli.env import app; app()"]
    assert "my_game/Guess-v0" in _run([*cli, "list"], installed, cwd=tmp_path)
    assert "FAILED" not in _run([*cli, "validate", "my_game/Guess-v0"], installed, cwd=tmp_path)
    shown = _run([*cli, "play", "my_game/Guess-v0"], installed, cwd=tmp_path, said="99\n0\n7\n")
    assert "error: guess 0 to 7" in shown
    assert "lower" in shown


@pytest.mark.timeout(600)
def test_it_trains_without_touching_ours(package: Path, installed: dict[str, str], tmp_path: Path) -> None:
    small = ["learner.updates=2", "rollout.groups_per_update=4", "rollout.group_size=4", "eval.tasks=8", "sft.steps=10"]
    here = [f"runs_dir={tmp_path}", "ray.dashboard=false", "log.tensorboard=false"]
    cli = [sys.executable, "-m", "turnwise", "train", "train.yaml", *small, *here]
    ran = subprocess.run(cli, env=installed, cwd=package, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    summary = json.loads((tmp_path / "my_game" / "summary.json").read_text())
    assert summary["updates"] == 2
    assert summary["failures"] == {}
