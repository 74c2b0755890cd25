"""The configuration that is written shows no secret, can be loaded again, and means the same."""

from pathlib import Path

import pytest

from turnwise.config import load_config, masked_yaml
from turnwise.config.keys import is_secret
from turnwise.errors import UserError


def reloaded(text: str, folder: Path) -> object:
    path = folder / "config.yaml"
    path.write_text(text)
    return load_config(path).config


def test_what_is_written_loads_as_the_same_configuration(tmp_path: Path) -> None:
    loaded = load_config(None, ["seed=3", "credit.channels={outcome: 2, format: 0.5}", "learner.lr=1e-4"])
    assert reloaded(masked_yaml(loaded), tmp_path) == loaded.config


def test_keys_without_effect_are_left_out() -> None:
    assert "min_lr_fraction" not in masked_yaml(load_config())
    assert "min_lr_fraction" in masked_yaml(load_config(None, ["learner.schedule=cosine"]))


def test_what_came_from_the_environment_is_written_as_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_VALUE", "SEKRET123")
    loaded = load_config(None, ["env.kwargs.api_key=${oc.env:MY_VALUE}", "name=run-${oc.env:MY_VALUE}"])
    assert loaded.config.env.kwargs == {"api_key": "SEKRET123"}
    text = masked_yaml(loaded)
    assert "SEKRET123" not in text
    assert "${oc.env:MY_VALUE}" in text
    assert reloaded(text, tmp_path) == loaded.config


def test_secrets_in_clear_are_masked_and_a_masked_one_is_not_loaded(tmp_path: Path) -> None:
    kwargs = "{hf_token: SEKRET123, deep: [{password: SEKRET123}], url: 'http://me:SEKRET123@host/', max_tokens: 5}"
    text = masked_yaml(load_config(None, [f"env.kwargs={kwargs}"]))
    assert "SEKRET123" not in text
    assert "max_tokens: 5" in text
    with pytest.raises(UserError, match="is a masked secret"):
        reloaded(text, tmp_path)


def test_an_error_does_not_print_a_secret() -> None:
    for word in ("api_key=SEKRET123", "env.kwargs.token='${bad:SEKRET123}'", "ray.api_token=[SEKRET123]"):
        with pytest.raises(UserError) as caught:
            load_config(None, [word])
        if "$" not in word:
            assert "SEKRET123" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("api_key", True),
        ("env.kwargs.hf_token", True),
        ("auth.secret", True),
        ("db_password", True),
        ("credentials", True),
        ("token", True),
        ("learner.micro_batch_tokens", False),
        ("agent.max_action_tokens", False),
        ("tokenizer", False),
        ("keys", False),
    ],
)
def test_secrets_are_known_by_their_keys(key: str, expected: bool) -> None:
    assert is_secret(key) is expected
