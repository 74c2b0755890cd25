"""What is decided where the user says nothing: which channels judge single turns, and the size of advantages."""

from __future__ import annotations

import pytest

from turnwise.config import load_config
from turnwise.errors import UserError

ORACLE = ("rollout.oracle=true", "credit.channels={outcome: 1.0, oracle: 0.2}")


def immediate(*words: str) -> list[str]:
    return load_config(None, words).config.credit.estimator["immediate"]


def test_a_run_of_outcomes_has_none() -> None:
    assert immediate() == []


@pytest.mark.parametrize("name", ["turnwise", "turn_loo"])
def test_the_oracle_and_scorers_that_say_so_judge_turns(name: str) -> None:
    assert immediate(*ORACLE, f"credit.estimator={{name: {name}}}") == ["oracle"]
    words = ("rewards=[{name: events}, {name: relevance, by: gold}]", "credit.channels={outcome: 1.0, relevance: 0.5}")
    assert immediate(*words, f"credit.estimator={{name: {name}}}") == ["relevance"]


def test_a_channel_without_a_weight_is_no_reward_at_all() -> None:
    assert immediate("rollout.oracle=true", "credit.channels={outcome: 1.0, oracle: 0.0}") == []


def test_the_granularity_of_implicit_rewards_decides() -> None:
    words = "credit.channels={outcome: 1.0, process: 0.5}"
    assert immediate("rewards=[{name: events}, {name: implicit_prm}]", words) == ["process"]
    assert immediate("rewards=[{name: events}, {name: implicit_prm, granularity: trajectory}]", words) == []


def test_what_the_user_says_counts() -> None:
    assert immediate(*ORACLE, "credit.estimator={name: turnwise, immediate: []}") == []


def test_the_run_folder_says_what_was_decided() -> None:
    loaded = load_config(None, ORACLE)
    assert loaded.node.credit.estimator.immediate == ["oracle"]
    assert loaded.values["credit.estimator.immediate"] == ["oracle"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), "group"),
        (("credit.estimator={name: turn_loo}",), "group"),
        (("credit.estimator={name: grpo}",), "none"),
        (("credit.estimator={name: grpo}", "credit.scale=group"), "group"),
        (("credit.scale=none",), "none"),
    ],
)
def test_published_estimators_keep_their_size(words: tuple[str, ...], wanted: str) -> None:
    loaded = load_config(None, words)
    assert loaded.config.credit.scale == loaded.values["credit.scale"] == loaded.node.credit.scale == wanted


def test_a_warm_start_records_unless_it_has_files() -> None:
    def recorded(*words: str) -> int | None:
        return load_config(None, ["sft.steps=1", *words]).config.sft.demonstrations

    assert recorded() == 2048
    assert recorded("sft.files=[a.jsonl]") == 0
    assert recorded("sft.files=[a.jsonl]", "sft.demonstrations=5") == 5
    with pytest.raises(UserError, match=r"^sft\.demonstrations=0: nothing to imitate; .*sft\.files"):
        recorded("sft.demonstrations=0")
