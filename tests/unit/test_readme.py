"""README.md as a newcomer uses it: its blocks run, its links and its file tree lead somewhere.

A block that is not run here says why in a comment above it and shows up as a skipped test with that reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_samples import make_failed, make_group

from turnwise.store.store import Store

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(?:<!-- ([^\n]*?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the comment above it."""

    note: str
    language: str
    text: str

    @property
    def why_not(self) -> str:
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""


BLOCKS = [Block(*match) for match in BLOCK.findall(README)]
SHELL = [block for block in BLOCKS if block.language == "sh"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a checkout after one run, with our commands on the path."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    Store(tmp_path / "runs" / "first").append(1, [make_group()], [make_failed()])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.text.split("#")[0].split("\n")[0].strip()[:40])
def test_a_shell_block_does_what_it_says(block: Block, desk: Path) -> None:
    if block.why_not:
        pytest.skip(block.why_not)
    expected, _, message = block.note.removeprefix("fails with ").partition(": ")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], capture_output=True, text=True, timeout=240)
    assert done.returncode == int(expected or 0), done.stderr
    assert message in done.stderr


def test_what_is_not_run_is_counted_by_reason() -> None:
    assert Counter(block.why_not for block in SHELL if block.why_not) == {
        "installs packages and trains for minutes": 1,
        "installs packages": 1,
        "trains for minutes": 1,
        "plays hundreds of episodes": 1,
        "needs a Ray cluster": 1,
        "installs a package; tests/flow/test_env_init.py does it": 1,
        "trains": 1,
    }


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "text"}
    assert README.count("```") == 2 * len(BLOCKS)
    assert all(re.match(r"$|not run: .|fails with \d: .", block.note) for block in BLOCKS)


def test_the_queries_answer(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in BLOCKS:
        if block.language == "python":
            exec(compile(block.text, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "failed" in out
    assert 'avg("value")' in out or "avg(value)" in out


def test_commands_that_are_not_run_are_at_least_understood(desk: Path) -> None:
    from turnwise.cli.run import split_words
    from turnwise.config import load_config

    lines = [line.split("#")[0] for block in SHELL for line in block.text.splitlines()]
    trained = [line.split()[2:] for line in lines if line.startswith(("turnwise train examples", "turnwise submit"))]
    loaded = 0
    for words in trained:
        words = [word for word in words if not word.startswith(("--", "http"))]
        if "learner.lrr=1e-4" not in words:
            file, overrides = split_words(words)
            load_config(file, overrides)
            loaded += 1
    assert loaded == 3


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE)
    assert {"train", "test", "curves"} <= set(targets)
    for target in targets:
        assert f"\n{target}:" in makefile, target


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def files_of_the_tree() -> set[Path]:
    """Return the files that the tree names, each of which is there."""
    tree = next(block.text for block in BLOCKS if block.language == "text")
    folders, files = [ROOT], set()
    for line in tree.splitlines():
        name, purpose = line.split(maxsplit=1)
        assert purpose, line
        depth = (len(line) - len(line.lstrip())) // 4
        path = folders[depth] / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), line
        folders[depth + 1 :] = [path]
        files.add(path)
    return files


def test_the_file_tree_is_that_of_the_repository() -> None:
    files = files_of_the_tree()
    for folder in ("platform/turnwise", "rewards/turnwise_rewards"):
        modules = {path for path in (ROOT / folder).glob("*.py") if not path.name.startswith("_")}
        assert modules <= files, folder


def test_no_figure_is_still_to_be_filled_in() -> None:
    assert re.findall(r"@@\w+@@", README) == []
