"""Defaults, file and overrides become one checked configuration; every mistake names field, value and remedy."""

from pathlib import Path

import pytest

from turnwise.config import RunConfig, load_config
from turnwise.errors import UserError


def error_of(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_the_defaults_are_valid_and_complete() -> None:
    loaded = load_config()
    assert isinstance(loaded.config, RunConfig)
    assert loaded.config.learner.lr == RunConfig().learner.lr
    assert loaded.config.agent["max_context"] == loaded.values["agent.max_context"]
    assert loaded.explicit == frozenset()


def test_an_override_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nlearner:\n  lr: 1e-3\n  updates: 7\n")
    loaded = load_config(path, ["learner.updates=9", "learner.lr=2e-3"])
    assert (loaded.config.seed, loaded.config.learner.updates, loaded.config.learner.lr) == (1, 9, 2e-3)
    assert loaded.explicit == {"seed", "learner.updates", "learner.lr"}


def test_a_free_mapping_replaces_its_default_and_a_dotted_override_adds_to_it(tmp_path: Path) -> None:
    path = written(tmp_path, "credit:\n  channels: {citation: 0.5}\n")
    assert load_config(path).config.credit.channels == {"citation": 0.5}
    assert load_config(path, ["credit.channels.outcome=2"]).config.credit.channels == {"citation": 0.5, "outcome": 2.0}
    assert load_config(None, ["credit.channels.format=0.1"]).config.credit.channels == {"outcome": 1.0, "format": 0.1}


def test_options_of_a_plugin_are_checked_filled_in_and_overridden_one_by_one(tmp_path: Path) -> None:
    path = written(tmp_path, "agent: {name: chat, max_context: 300}\nrewards: [{name: events}]\n")
    agent = load_config(path, ["agent.max_action_tokens=8"]).config.agent
    assert (agent["name"], agent["max_context"], agent["max_action_tokens"]) == ("chat", 300, 8)
    assert load_config(None, ["agent={max_context: 99}"]).config.agent["name"] == "chat"
    assert "agent.max_contxt=1: no such key; did you mean agent.max_context?" in error_of("agent.max_contxt=1")
    assert "agent.max_context=long: a text where a whole number is expected" in error_of("agent.max_context=long")
    assert "rewards.0.name=evnts: no such scorer; did you mean events?" in error_of("rewards=[{name: evnts}]")
    assert "rewards.0.name" in error_of("rewards=[{}]")
    assert "agent=chat: a mapping" in error_of("agent=chat")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("learner.lrr=1", "did you mean learner.lr?"),
        ("lr=1", "did you mean learner.lr or sft.lr?"),
        ("rollout.group_sise=3", "did you mean rollout.group_size?"),
        ("group_size=3", "did you mean rollout.group_size?"),
        ("credit.estimator.gama=1", "did you mean credit.estimator.gamma?"),
        ("rollout.qqq=1", "one of: rollout.workers, rollout.slots"),
        ("qqq=1", "one of: name, runs_dir"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override: str, problem: str) -> None:
    text = error_of(override)
    assert text.startswith(f"{override}: no such key; ")
    assert problem in text


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("learner.lr=fast", "learner.lr=fast: a text where a number is expected"),
        ("learner.lr=true", "learner.lr=True: true or false where a number is expected"),
        ("rollout.workers=1.5", "rollout.workers=1.5: a number where a whole number is expected"),
        ("rollout.workers=null", "rollout.workers=None: null where a whole number is expected"),
        ("learner.betas=[0.9, x]", "learner.betas.1=x: a text where a number is expected"),
        ("learner.betas=0.9", "where a list (a number each) is expected"),
        ("credit.channels.a=x", "credit.channels.a=x: a text where a number is expected"),
        ("log.wandb=maybe", "log.wandb=maybe: a text where true or false is expected"),
        ("name=1e3", "name=1000.0: a number where a text is expected; write a text (in quotes)"),
        ("name=yes", "name=True: true or false where a text is expected"),
        ("credit.channels.a=true", "credit.channels.a=True: true or false where a number is expected"),
        ("name=[a]", "name=['a']: a list where a text is expected"),
        ("learner=3", "learner=3: a whole number where a section"),
        ("env.kwargs=3", "env.kwargs=3: a whole number where a mapping"),
    ],
)
def test_a_wrong_type_names_field_value_and_what_is_expected(override: str, problem: str) -> None:
    assert problem in error_of(override)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1, 2\nb: 3\n", "run.yaml:2: is not valid YAML"),
        ("- a\n- b\n", "run.yaml:1: is no mapping of keys to values"),
        ("just words\n", "run.yaml:1: is no mapping of keys to values"),
        ("seed: 1\nname: !!python/object/apply:os.system ['true']\n", "run.yaml:2: a YAML tag is not allowed"),
        ("name: !!python/object/apply:pathlib.Path [a]\n", "name=a: is a PosixPath, made by a YAML tag"),
        ("seed: 1\nseed: 2\n", "run.yaml:2: is not valid YAML (found duplicate key seed)"),
        ("a: &a [*a]\n", "is not valid YAML"),
        ("[" * 3000, "is not valid YAML"),
        ("3: 4\n", "3=4: no such key"),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in error_of(path=written(tmp_path, text))


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "is not valid YAML (YAML" in error_of(path=written(tmp_path, "\n".join(lines)))


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "absent.yaml: does not exist" in error_of(path=tmp_path / "absent.yaml")
    assert "cannot be read" in error_of(path=tmp_path)
    assert "UTF-8" in error_of(path=tmp_path / "binary.yaml")


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing\n")).config == RunConfig_filled()


def RunConfig_filled() -> RunConfig:  # noqa: N802
    return load_config().config


def test_an_environment_variable_is_the_only_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_NAME", "${oc.decode:${seed}}")
    monkeypatch.setenv("A_NUMBER", "3")
    loaded = load_config(None, ["name=${oc.env:A_NAME}", "rollout.workers=${oc.env:A_NUMBER}"])
    assert loaded.config.name == "${oc.decode:${seed}}"
    assert loaded.config.rollout.workers == 3
    for text in (
        "${seed}",
        "${oc.decode:1}",
        "${oc.env:A_NAME,x}",
        "${oc.env:${name}}",
        "\\${seed}",
        "${",
        "a${b",
        "???",
    ):
        assert error_of(f"name='{text}'").startswith("name=")
    assert "the environment variable NO_SUCH is not set; export NO_SUCH" in error_of("name=${oc.env:NO_SUCH}")
    assert "env.kwargs.x" in error_of("env.kwargs={x: ['${seed}']}")[:20]


def test_a_value_from_the_environment_of_the_wrong_type_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "SEKRET123")
    text = error_of("rollout.workers=${oc.env:A_SECRET}")
    assert "rollout.workers=${oc.env:A_SECRET}: a text where a whole number is expected" in text
    assert "SEKRET123" not in text


def test_objects_are_never_made_from_a_configuration() -> None:
    assert "_target_" in error_of("env.kwargs={_target_: os.system}")
    assert "_target_" in error_of("agent={name: chat, _target_: os.system}")


def test_an_override_can_forget_a_key_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "sft: {steps: 3, batch_size: 4}\n")
    assert load_config(path, ["sft.steps=0", "~sft.batch_size"]).config.sft.batch_size == RunConfig().sft.batch_size
    assert "~sft.lr=" in error_of("~sft.lr", path=path)


def test_an_item_of_a_list_can_be_overridden() -> None:
    assert load_config(None, ["rewards.0.name=events"]).config.rewards[0]["name"] == "events"
    assert "the list has 1 items" in error_of("rewards.1.name=events")


def test_the_word_that_is_no_override_is_named() -> None:
    assert error_of("seed").startswith("argument=seed: is neither key=value nor a configuration file")
    assert "seed=[1: is not valid YAML" in error_of("seed=[1")
