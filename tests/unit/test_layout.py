"""The house keeps its shape: who imports whom, where Ray and torch stand, and what no tracked file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnwise.config import load_config

ROOT = Path(__file__).parents[2]
CORE = ROOT / "platform" / "turnwise"
PACKAGES = {
    "turnwise": CORE,
    "turnwise_envs": ROOT / "envs" / "turnwise_envs",
    "turnwise_agents": ROOT / "agents" / "turnwise_agents",
    "turnwise_rewards": ROOT / "rewards" / "turnwise_rewards",
}
OURS = set(PACKAGES) - {"turnwise"}

OPEN_TO_PLUGINS = {
    "turnwise",
    "turnwise.agent",
    "turnwise.config",
    "turnwise.credit",
    "turnwise.credit.correlation",
    "turnwise.env",
    "turnwise.errors",
    "turnwise.records",
    "turnwise.registry",
    "turnwise.reward",
    "turnwise.sandbox",
    "turnwise.sandbox.blocking",
    "turnwise.sandbox.brought",
    "turnwise.sandbox.confined",
    "turnwise.sandbox.gate",
    "turnwise.sandbox.network",
    "turnwise.sandbox.policy",
    "turnwise.sandbox.source",
    "turnwise.sandbox.tiers",
    "turnwise.served",
    "turnwise.tasks",
}
"""What envs, agents and rewards may import of the core, modules below `turnwise.env` included."""

OPEN_TO_TRAINED = {
    "turnwise.credit.gae",
    "turnwise.credit.pack",
    "turnwise.credit.returns",
    "turnwise.credit.rewards",
    "turnwise.credit.values",
    "turnwise.learner.divergence",
    "turnwise.learner.folder",
    "turnwise.learner.forward",
    "turnwise.learner.microbatch",
    "turnwise.learner.weights",
}
"""What the scorers that learn, in `turnwise_rewards/trained/`, may import besides."""

RAY = {
    "fleet.py",
    "scorers.py",
    "sandboxes.py",
    "remote.py",
    "cluster.py",
    "engine/client.py",
    "monitor/ray_metrics.py",
    "cli/submit.py",
}
"""Where Ray stands beside files named `actor.py`."""

TORCH = {"cli/machine.py"}
"""Where torch stands beside `engine/` and `learner/`: the doctor asks for its version, when it runs."""


def modules(package: str) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    assert found, package
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it, by statement or by `import_module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (part.value for part in node.args[:1] if isinstance(part, ast.Constant))


def top(name: str) -> str:
    return name.partition(".")[0]


def users_of(packages: set[str], where: str = "turnwise") -> set[str]:
    base = PACKAGES[where]
    return {
        path.relative_to(base).as_posix() for path in modules(where) if packages & {top(name) for name in imports(path)}
    }


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not any((ROOT / folder / "__init__.py").exists() for folder in ("envs", "agents", "rewards", "tests"))


def test_the_core_imports_no_environment_agent_or_reward() -> None:
    assert users_of(OURS) == set()


@pytest.mark.parametrize("package", sorted(OURS))
def test_environments_agents_and_rewards_import_the_contracts_and_not_each_other(package: str) -> None:
    for path in modules(package):
        for name in imports(path):
            assert top(name) not in OURS - {package}, f"{path}: {name}"
            if top(name) == "turnwise":
                assert is_open(name, "trained" in path.parts), f"{path}: {name} is not open to plug-ins"


def is_open(name: str, is_trained: bool) -> bool:
    path = CORE.joinpath(*name.split(".")[1:])
    is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    module = name if is_module else name.rpartition(".")[0]
    return module in OPEN_TO_PLUGINS or (is_trained and module in OPEN_TO_TRAINED) or module.startswith("turnwise.env.")


def test_ray_stands_where_agents_md_says() -> None:
    found = users_of({"ray"})
    assert {path for path in found if not path.endswith("actor.py")} == RAY
    assert set().union(*(users_of({"ray"}, package) for package in OURS)) == set()


def test_torch_stands_in_engine_learner_and_the_scorers_that_learn() -> None:
    found = users_of({"torch", "safetensors"})
    assert {path for path in found if not path.startswith(("engine/", "learner/"))} == TORCH
    ours = set().union(*(users_of({"torch", "transformers"}, package) for package in OURS))
    assert {path for path in ours if not path.startswith("trained/")} == {"judging/encoder.py"}  # when it is used


def test_records_and_contracts_are_numpy_and_dataclasses() -> None:
    for path in (
        "records.py",
        "errors.py",
        "agent.py",
        "credit/__init__.py",
        "reward/__init__.py",
        "engine/__init__.py",
    ):
        assert {top(name) for name in imports(CORE / path)}.isdisjoint({"torch", "ray", "transformers", "gymnasium"})


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_no_module_is_a_drawer(package: str) -> None:
    assert [path for path in modules(package) if path.stem in ("utils", "helpers", "common", "misc")] == []


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:4096] and path.suffix not in (".safetensors", ".png"):
            found[path.relative_to(ROOT).as_posix()] = data.decode("utf-8")
    assert "README.md" in found
    return found


def hits(texts: dict[str, str], pattern: str) -> list[str]:
    """Return `file: match` of a pattern; this file holds none, since the patterns are put together when it runs."""
    return [f"{name}: {match[0]}" for name, text in texts.items() for match in re.finditer(pattern, text)]


def test_no_tracked_file_names_a_path_of_one_machine(texts: dict[str, str]) -> None:
    homes = "|".join(["root", "work", "Users", r"home/\w+", "mnt", "scratch"])
    assert hits(texts, rf"(?<![\w.\-/}}~])/(?:{homes})/[\w.]") == []


def test_no_tracked_file_names_a_registry(texts: dict[str, str]) -> None:
    hosts = [
        r"py" + r"pi\.org",
        r"python" + r"hosted\.org",
        r"download\.py" + r"torch\.org",
        r"index" + r"-url[ =]+http",
    ]
    mirrors = [r"arti" + r"factory", r"nex" + r"us\.", r"dev" + r"pi\.", r"docker" + r"\.io[/:]", r"gh" + r"cr\.io"]
    assert hits(texts, "|".join([*hosts, *mirrors])) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_a_configuration_that_loads(path: Path) -> None:
    loaded = load_config(path)
    assert loaded.config.name == path.stem
    assert loaded.explicit
