"""The wheels that `turnwise submit` ships: complete, installable without an index, and equal for equal content."""

import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import turnwise
from turnwise.cli.wheel import pack_wheel, plugin_distributions
from turnwise.errors import UserError


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_wheel(distribution("turnwise"), tmp_path_factory.mktemp("wheel"))


def test_our_own_distribution_is_shipped() -> None:
    assert "turnwise" in [each.name for each in plugin_distributions()]


def test_it_holds_every_source_file_and_every_package_but_no_caches(wheel: Path) -> None:
    members = set(zipfile.ZipFile(wheel).namelist())
    root = Path(turnwise.__file__).parent
    sources = {f"turnwise/{path.relative_to(root).as_posix()}" for path in root.rglob("*.py")}
    assert sources <= members
    assert {"turnwise_envs/__init__.py", "turnwise/py.typed"} <= members
    assert {f"turnwise_agents/{model}/model.safetensors" for model in ("tiny", "tiny_code")} <= members
    assert not [member for member in members if "__pycache__" in member]


def test_it_installs_without_an_index_and_its_plugins_are_found(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--quiet", f"--target={target}", str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import turnwise, turnwise.registry as r; "
        "from importlib.metadata import distributions; "
        "paths = [str(d.locate_file('')) for d in distributions(path=[sys.path[0]])]; "
        "print(turnwise.__file__, paths, 'turnwise_agents' in r.load_plugins())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.split() == [f"{target}/turnwise/__init__.py", f"['{target}']", "True"]


def test_equal_content_gives_equal_bytes(wheel: Path, tmp_path: Path) -> None:
    assert pack_wheel(distribution("turnwise"), tmp_path).read_bytes() == wheel.read_bytes()
    assert {member.date_time for member in zipfile.ZipFile(wheel).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_compiled_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, info = tmp_path / "speedy", tmp_path / "speedy-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "core.so").write_bytes(b"\x7fELF")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: speedy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[turnwise.plugins]\nspeedy = speedy\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="compiled code"):
        pack_wheel(distribution("speedy"), tmp_path)
