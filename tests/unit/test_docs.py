"""The pages in docs/ say what the code does: every key, every block of code, every test and file that they name."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from credit_pieces import rewards

from turnwise import registry
from turnwise.cli.run import split_words
from turnwise.config import load_config
from turnwise.config.keys import specs
from turnwise.config.plugins import build_plugin, config_class
from turnwise.config.schema import RunConfig
from turnwise.registry import KINDS, load_plugins, lookup, names
from turnwise.tasks import make_env, world_of
from turnwise_agents import TINY_CODE, TINY_MODEL

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SECTION = {
    "correction": "learner.correction",
    "estimator": "credit.estimator",
    "fuse": "credit.fuse.N",
    "objective": "learner.objective",
    "scorer": "rewards.N",
    "select": "credit.select.N",
}
ROW = re.compile(r"^\| `([\w.]+)` \| `([^`]*)` \| (.*) \| ([^|]*) \|$")
FILE = re.compile(r"^<!-- file: (\S+) -->\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Row = tuple[str, str, str, str]  # heading, key, default, condition


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def documented() -> list[Row]:
    rows, heading = [], ""
    for line in page("configuration.md").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif match := ROW.match(line):
            assert match[3].strip(), f"{match[1]} has no description"
            rows.append((heading, match[1], match[2], match[4].strip()))
    return rows


def keys_of(cls: type, heading: str, prefix: str) -> Iterator[Row]:
    for field in dataclasses.fields(cls):
        spec = specs(cls)[field.name]
        if spec.section is not None:
            yield from keys_of(spec.section, f"{prefix}{field.name}", f"{prefix}{field.name}.")
        else:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
            conditions = ", ".join(shown(name, value, prefix) for name, value in spec.only_if)
            yield heading, prefix + field.name, json.dumps(default), conditions


def shown(name: str, value: Any, prefix: str) -> str:
    name = name if "." in name else prefix + name
    if value is True:
        return f"`{name}` is set"
    wanted = value if isinstance(value, tuple) else (value,)
    return f"`{name}` = " + " or ".join(f"`{one if isinstance(one, str) else 'null'}`" for one in wanted)


def expected() -> Iterator[Row]:
    yield from keys_of(RunConfig, "The run", "")
    for kind, name in registered():
        cls = config_class(lookup(kind, name))
        if cls is not None:
            yield from keys_of(cls, f"{kind} `{name}`", f"{SECTION.get(kind, kind)}.")


def registered() -> list[tuple[str, str]]:
    """What our own packages register: another package of the environment may register more."""
    return [(kind, name) for kind in KINDS for name in names(kind) if is_ours(lookup(kind, name))]


def is_ours(item: Any) -> bool:
    if isinstance(item, Path):  # a model is a folder
        return item in (TINY_MODEL, TINY_CODE)
    return str(item.__module__).partition(".")[0] in ("turnwise", "turnwise_agents", "turnwise_rewards")


def test_every_key_stands_in_the_page_with_its_default_and_condition_and_no_other_does() -> None:
    written, true = documented(), list(expected())
    assert len(written) == len(set(written))
    assert set(written) - set(true) == set()
    assert set(true) - set(written) == set()


def test_every_plugin_has_its_heading() -> None:
    headings = set(re.findall(r"^### (\w+) `(\w+)`$", page("configuration.md"), re.MULTILINE))
    assert headings == set(registered())


def test_the_command_at_the_head_of_the_page_is_understood() -> None:
    line = next(line for line in page("configuration.md").splitlines() if line.startswith("    turnwise train"))
    file, overrides = split_words(shlex.split(line)[2:])
    loaded = load_config(ROOT / str(file), overrides)
    assert (loaded.config.seed, loaded.config.credit.estimator["name"]) == (1, "grpo")
    assert loaded.config.learner.warmup_updates == 0


def test_the_code_of_the_environments_page_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load_plugins()  # before the copy, or what they register would be lost with it
    copied = {kind: dict(items) for kind, items in registry._items.items()}
    monkeypatch.setattr(registry, "_items", copied)
    before = set(gymnasium.registry)
    for name, text in FILE.findall(page("environments.md")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    blocks = CODE.findall(page("environments.md"))
    names_of_the_page: dict[str, Any] = {"__name__": "environments_page"}
    try:
        for block in blocks:
            exec(compile(block, "docs/environments.md", "exec"), names_of_the_page)
    finally:
        for env_id in set(gymnasium.registry) - before:
            if env_id.startswith(("docs/", "my_world/")):
                del gymnasium.registry[env_id]
    assert len(blocks) == 17


def test_no_block_of_the_environments_page_is_left_out() -> None:
    text = page("environments.md")
    tables = re.findall(r"^<!-- toml -->\n```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [tomllib.loads(table)["project"]["entry-points"] for table in tables] == [
        {"turnwise.plugins": {"my_world": "my_world:register_all"}}
    ]
    assert text.count("```") == 2 * (len(CODE.findall(text)) + len(FILE.findall(text)) + len(tables))


WITH_A_TABLE = ("Search-v0", "Tool-v0", "BFCL-v0", "GymText-v0", "TryAgain-v0", "Dialogue-v0", "Questions-v0")


@pytest.mark.parametrize(
    ("env_id", "heading"),
    [(name, f"turnwise/{name}") for name in (*WITH_A_TABLE, "MiniWoB-v0", "Flaky-v0")],
)
def test_the_arguments_of_an_environment_are_those_of_its_constructor(env_id: str, heading: str) -> None:
    text = page("environments.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    written = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    env = make_env(f"turnwise/{env_id}")
    taken = set(inspect.signature(type(world_of(env))).parameters) - {"render_mode"}
    env.close()
    assert written == taken


def test_every_test_that_the_architecture_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", page("architecture.md")))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for text in sources for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}
    assert len(named) > 20
    assert named - there == set()


@pytest.mark.parametrize(
    "name",
    ["architecture.md", "configuration.md", "credit.md", "environments.md", "rewards.md", "sandbox.md", "swe.md"],
)
def test_links_and_paths_lead_somewhere(name: str) -> None:
    text = page(name)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        assert (DOCS / target).is_file(), link
        headings = re.findall(r"^#+ (.+)$", page(target), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, link
    core = ROOT / "platform" / "turnwise"
    for path in re.findall(r"`([\w./]+\.py)`", text):
        places = [ROOT / path, core / path, *core.rglob(path)]
        assert any(place.is_file() for place in places) or path in ("actor.py", "__init__.py"), path


@pytest.mark.parametrize(
    ("kind", "heading", "column"),
    [
        ("estimator", "Which estimator", 0),
        ("fuse", "Which fusions, and in which order", 1),
        ("select", "Which selection", 0),
        ("objective", "Which objective and correction", 0),
        ("correction", "Which objective and correction", 0),
    ],
)
def test_the_credit_page_says_of_every_plugin_when_to_take_it(kind: str, heading: str, column: int) -> None:
    section = page("credit.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[column])]
    assert sorted(set(names(kind)) - set(named)) == [], f"no row for these: {kind}"
    assert len(named) == len(set(named)), "a row twice"
    assert set(named) <= {
        name for each in ("estimator", "fuse", "select", "objective", "correction") for name in names(each)
    }
    assert all(cell.strip() for row in rows for cell in row[column + 1 :]), "an empty cell"


def test_the_estimator_of_the_credit_page_works(monkeypatch: pytest.MonkeyPatch) -> None:
    load_plugins()  # before the copy, or what they register would be lost with it
    monkeypatch.setattr(registry, "_items", {kind: dict(items) for kind, items in registry._items.items()})
    (block,) = CODE.findall(page("credit.md"))
    exec(compile(block, "docs/credit.md", "exec", dont_inherit=True), {"__name__": "credit_page"})
    found, options = build_plugin("estimator", {"name": "signed", "threshold": 1.5})
    batch = rewards(["a"] * 3, [[0.0, 1.0], [1.0], [0.0]], [1.0, 0.0, 5.0], masked_outcomes=[2])
    advantages = found(options).estimate(batch)
    assert advantages.values.tolist() == [[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]
    assert advantages.mask.tolist() == [[True, True], [True, False], [False, False]]
