"""Keys without effect, values out of bounds, and combinations that cannot work."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from turnwise import registry
from turnwise.config import build_plugin, key, load_config
from turnwise.config.effects import check_effects
from turnwise.config.keys import schema, walk
from turnwise.config.plugins import channels_in
from turnwise.config.schema import Bounds
from turnwise.errors import UserError
from turnwise.registry import register


def error_of(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(None, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["learner.min_lr_fraction=0.1"], "learner.schedule=constant; remove it or set learner.schedule=cosine"),
        (["sft.batch_size=3"], "sft.steps=0; remove it or set sft.steps"),
        (
            ["sft.steps=1", "sft.files=[x]", "sft.env_kwargs={'hops': 1}"],
            "sft.demonstrations=0; remove it or set sft.demonstrations",
        ),
        (["ray.address=a:1", "ray.num_cpus=2"], "ray.address=a:1; remove it or set ray.address=null"),
        (["ray.address=a:1", "ray.dashboard_port=2"], "ray.address=a:1; remove it or set ray.address=null"),
        (["ray.dashboard=false", "ray.dashboard_port=2"], "ray.dashboard=false; remove it or set ray.dashboard=true"),
        (["log.wandb_project=x"], "log.wandb=false; remove it or set log.wandb=true"),
        (["eval.tasks=0", "eval.every=2"], "eval.tasks=0; remove it or set eval.tasks"),
        (["learner.kl_estimator=k2"], "learner.kl_coef=0.0; remove it or set learner.kl_coef"),
        (
            ["learner.correction.name=tis", "learner.correction.form=product"],
            "learner.correction.level=token; remove it or set learner.correction.level=turn",
        ),
        (
            ["learner.objective.length=9"],
            "learner.objective.aggregate=token_mean; "
            "remove it or set learner.objective.aggregate=seq_mean_token_sum_norm",
        ),
        (
            ["learner.objective.entropy_last=0.1"],
            "learner.objective.entropy=0.0; remove it or set learner.objective.entropy",
        ),
    ],
)
def test_a_key_without_effect_names_why_and_what_to_do(overrides: list[str], problem: str) -> None:
    assert f"{overrides[-1]}: has no effect because {problem}" in error_of(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["learner.schedule=cosine", "learner.min_lr_fraction=0.2"],
        ["sft.steps=1", "sft.batch_size=3", "sft.demonstrations=9"],
        ["sft.steps=1", "sft.files=[demos.jsonl]"],
        ["sft.steps=1", "sft.files=[demos.jsonl]", "sft.demonstrations=8", "sft.env_kwargs={hops: 1}"],
        ["sft.steps=1", "sft.env_kwargs={hops: 1}"],
        ["ray.dashboard_port=9000"],
    ],
)
def test_a_key_with_effect_is_accepted(overrides: list[str]) -> None:
    assert load_config(None, overrides).explicit >= {word.partition("=")[0] for word in overrides}


def test_every_condition_of_the_schema_names_a_key_and_holds_for_some_value() -> None:
    for name, spec in schema().items():
        for condition, _ in spec.only_if:
            assert condition in schema(), f"{name} depends on {condition}"


def test_a_plugin_may_make_an_option_depend_on_its_sister() -> None:
    @dataclass
    class Options:
        mode: str = key("fast", "how")
        limit: int = key(3, "only when slow", only_if=("mode", "slow"))

    known = dict(walk(Options, "engine."))
    check_effects({"engine.mode": "slow", "engine.limit": 1}, known, frozenset({"engine.limit"}))
    with pytest.raises(UserError, match=r"engine.limit=1: has no effect because engine.mode=fast"):
        check_effects({"engine.mode": "fast", "engine.limit": 1}, known, frozenset({"engine.limit"}))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("learner.lr=0", "is too small; use a number above 0"),
        ("learner.lr=-1", "is too small"),
        ("learner.lr=.nan", "is not a finite number"),
        ("learner.lr=.inf", "is not a finite number"),
        ("learner.betas=[0.9, 1.0]", "learner.betas=1.0: is too large; use a number below 1"),
        ("learner.betas=[0.9]", "AdamW takes two"),
        ("rollout.slots=0", "is too small; use at least 1"),
        ("rollout.max_staleness=-1", "is too small; use at least 0"),
        ("timeouts.step_s=0", "is too small"),
        ("ray.dashboard_port=70000", "is too large; use at most 65535"),
        ("seed=-1", "is too small"),
        ("model.dtype=float16", "is not a choice; one of: float32, bfloat16"),
        ("learner.schedule=linear", "is not a choice; one of: constant, cosine"),
        ("eval.modes=[greedy, best]", "eval.modes=best: is not a choice; one of: sampled, greedy"),
        ("eval.modes=[greedy, greedy]", "names a mode twice"),
        ("eval.modes=[]", "no mode"),
        ("credit.channels={}", "no reward channel is used"),
        ("credit.channels={outcome: 0}", "every weight is 0"),
        ("credit.channels={outcome: .inf}", "credit.channels.outcome=inf: is not a finite number"),
        ("credit.channels={outcome: 1.0, '*': 1.0}", "credit.channels='*': is no name of a channel"),
        ("credit.fuse=[{name: constrain, constraints: {outcome: .nan}}]", "constraints.outcome=nan: is not a finite"),
        ("rewards=[]", "no scorer"),
        ("rollout.group_size=1", "rollout.group_size=1: the estimator turnwise compares the episodes of a group"),
        ("rollout.min_group_size=9", "exceeds rollout.group_size=8"),
        ("learner.minibatches=129", "more optimizer steps than the 128 episodes of an update"),
        ("learner.warmup_updates=41", "exceeds learner.updates=40"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(override: str, problem: str) -> None:
    assert problem in error_of(override)


@pytest.mark.parametrize("objective", ["dppo", "decoupled_ppo"])
def test_a_correction_that_would_count_the_ratio_twice_is_refused(objective: str) -> None:
    found = error_of(f"learner.objective.name={objective}", "learner.correction.name=mis")
    assert found.startswith(f"learner.correction.name=mis: the objective {objective} accounts for the sampler itself")


def test_what_an_objective_or_a_correction_refuses_is_refused_before_anything_starts() -> None:
    assert error_of("learner.objective.dual_clip=0.5").startswith("learner.objective.dual_clip=0.5")
    refused = error_of("learner.correction.name=icepop", "learner.correction.low=1.5")
    assert refused.startswith("learner.correction.low=1.5: with high=2 the band of w leaves out 1")


def test_plain_keys_are_checked_before_any_plugin_is_looked_up() -> None:
    assert error_of("agent.name=nobody", "learner.lr=0").startswith("learner.lr=0")


@pytest.fixture
def bounded_scorer() -> Iterator[None]:
    @dataclass
    class Config:
        strength: float = key(1.0, "how much", at_least=0)
        mode: str = key("fast", "how", one_of=("fast", "slow"))
        limit: int = key(3, "of what is slow", only_if=("mode", "slow"))

    register("scorer", "bounded")(type("Bounded", (), {"Config": Config}))
    yield
    registry._items["scorer"].pop("bounded")


@pytest.mark.usefixtures("bounded_scorer")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("strength: -1", "rewards.0.strength=-1.0: is too small; use at least 0"),
        ("mode: medium", "rewards.0.mode=medium: is not a choice; one of: fast, slow"),
        (
            "limit: 4",
            "rewards.0.limit=4: has no effect because rewards.0.mode=fast; remove it or set rewards.0.mode=slow",
        ),
        (
            "loudness: 4",
            "rewards.0.loudness=4: no such key; one of: rewards.0.strength, rewards.0.mode, rewards.0.limit",
        ),
        ("limit: x", "rewards.0.limit=x: a text where a whole number is expected"),
    ],
)
def test_options_of_plugins_are_checked_like_all_other_keys(options: str, problem: str) -> None:
    assert problem in error_of(f"rewards=[{{name: bounded, {options}}}]")


@pytest.mark.usefixtures("bounded_scorer")
def test_a_plugin_is_built_with_its_own_config() -> None:
    section = load_config(None, ["rewards=[{name: bounded, mode: slow, limit: 9}]"]).config.rewards[0]
    found, config = build_plugin("scorer", section)
    assert (found.__name__, config.strength, config.mode, config.limit) == ("Bounded", 1.0, "slow", 9)


def test_a_group_of_one_names_the_estimator_that_was_chosen() -> None:
    assert "the estimator grpo compares" in error_of("rollout.group_size=1", "credit.estimator.name=grpo")


def test_every_number_of_the_schema_is_bounded() -> None:
    free = {name for name, spec in schema().items() if spec.hint in (int, float) and spec.bounds == Bounds()}
    assert free == {"eval.success_threshold"}


TWO = "credit.channels={outcome: 1.0, process: 0.5, rubric: 0.0}"


@pytest.mark.parametrize(
    ("fusions", "problem"),
    [
        ("{name: renorm, process: outcome}", "credit.fuse.0.process=outcome: is the outcome too"),
        (
            "{name: constrain, constraints: {rubric: 1.0}}, {name: progress, contribution: rubric, grounded: rubric, "
            "into: rubric}",
            "credit.fuse.0.name=constrain: it names the channel rubric, which a later fusion makes; let the one",
        ),
        ("{name: gate, levels: [[process], [outcome]]}, {name: renorm}", None),
        ("{name: only_positive}, {name: anneal, over: 5}", None),
        (
            "{name: gate, levels: [[format], [outcome]]}",
            "credit.channels.format=null: credit.fuse.0: the fusion gate needs this channel; add format: 0.0 "
            "and a scorer that gives it to rewards",
        ),
        (
            "{name: clip}, {name: constrain, constraints: {safe: 1.0}}",
            "credit.channels.safe=null: credit.fuse.1: the fusion constrain needs this channel; add safe: 0.0",
        ),
        (
            "{name: overlong}",
            "credit.channels.overlong=null: credit.fuse.0: the fusion overlong needs this channel; add overlong: 1.0",
        ),
        (
            "{name: only_positive, rubric: process}",
            "credit.channels.process=0.5: credit.fuse.0: the fusion only_positive folds it into another channel, "
            "so it counts twice; use 0.0",
        ),
        (
            "{name: anneal, channel: rubric}",
            "credit.channels.rubric=0.0: credit.fuse.0: the fusion anneal changes a weight that is 0",
        ),
        ("{name: clip}, {name: gate}", "credit.fuse.1.levels=[]: a gate needs two levels of channels"),
        ("{name: tiers, alpha: 1.0}", "credit.fuse.0.alpha=1.0: is too large; use a number below 1"),
        ("{name: gates}", "credit.fuse.0.name=gates: no such fuse; did you mean gate?"),
        (
            "{name: ensemble, channels: [rubric, process], how: mean, penalty: 2.0}",
            "credit.fuse.0.penalty=2.0: has no effect because credit.fuse.0.how=mean",
        ),
    ],
)
def test_fusions_are_checked_with_the_channels_they_name(fusions: str, problem: str | None) -> None:
    overrides = [TWO, f"credit.fuse=[{fusions}]"]
    if problem is None:
        assert load_config(None, overrides).config.credit.fuse
    else:
        assert problem in error_of(*overrides)


MADE = ["credit.channels={ensemble: 1.0, a: 0.0, b: 0.0}", "credit.fuse=[{name: ensemble, channels: [a, b]}]"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["credit.select=[{name: dynamic_sampling}]"], "credit.select.0.channel=null: fusions make every channel"),
        (
            ["credit.select=[{name: dynamic_sampling, channel: ensemble}]"],
            "credit.select.0.channel=ensemble: a fusion makes this channel, and selections come before fusions",
        ),
        (
            ["credit.select=[{name: rorecomp, outcome: ensemble}]", "rollout.max_staleness=1"],
            "credit.select.0.outcome=ensemble: a fusion makes this channel",
        ),
        (
            [
                "credit.channels={outcome: 1.0, ensemble: 0.0, a: 0.0, b: 0.0}",
                "credit.estimator={name: turn_gae, values: ensemble}",
            ],
            "credit.estimator.values=ensemble: a fusion makes this channel, and values are read as a scorer gave them",
        ),
    ],
)
def test_what_a_fusion_makes_is_not_there_for_who_comes_before_it(overrides: list[str], problem: str) -> None:
    assert problem in error_of(*MADE, *overrides)


def test_a_selection_may_compare_the_channels_that_scorers_give() -> None:
    overrides = [*MADE, "credit.select=[{name: dynamic_sampling, channel: a}]"]
    assert load_config(None, overrides).config.credit.select


ALONE = ["rollout.group_size=1", "rollout.min_group_size=1", "credit.estimator={name: reinforce_pp}"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("credit.fuse=[{name: preference}]", "credit.fuse.0: the fusion preference compares the episodes of a group"),
        ("credit.select=[{name: dynamic_sampling}]", "credit.select.0 compares the episodes of a group, so it would"),
    ],
)
def test_a_group_of_one_is_refused_by_all_who_compare_its_members(override: str, problem: str) -> None:
    assert f"rollout.group_size=1: {problem}" in error_of(*ALONE, override)


def test_a_group_of_one_may_be_kept_and_compared_with_references() -> None:
    raw = "credit.select=[{name: dynamic_sampling, singleton: raw}]"
    channels, fusion = "credit.channels={outcome: 1.0, ref: 0.0}", "credit.fuse=[{name: preference, references: [ref]}]"
    assert load_config(None, [*ALONE, raw, channels, fusion]).config.rollout.group_size == 1


def test_a_selection_leaves_the_estimator_members_enough() -> None:
    channels, prof = "credit.channels={outcome: 1.0, process: 0.0}", "credit.select=[{name: prof, keep: 4}]"
    problem = "credit.select.0.keep=4: leaves fewer than the 5 members that the estimator compares; use at least 5"
    assert problem in error_of(channels, prof, "credit.estimator.name=cm2")
    assert load_config(None, [channels, prof, "credit.estimator={name: cm2, min_group: 4}"]).config.credit.select


def test_options_that_hold_channels_may_be_one_a_list_lists_or_a_mapping() -> None:
    values = ["a", ["a", "b"], [["a"], ["b", "c"]], {"a": 1.0, "b": 0.0}, {"a": ["b"]}, None, "", []]
    found = [channels_in(value) for value in values]
    assert found == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b"], ["a", "b"], [], [], []]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["scoring.attempts=1", "scoring.backoff_s=3"], "scoring.backoff_s=3.0: has no effect because"),
        (["scoring.concurrency=4"], "scoring.concurrency=4: has no effect because no scorer of rewards waits for"),
        (["scoring.breaker_failures=0", "scoring.breaker_s=3"], "scoring.breaker_s=3.0: has no effect because"),
        (["scoring.max_masked=1.5"], "scoring.max_masked=1.5: is too large"),
    ],
)
def test_what_has_no_effect_on_scoring_is_refused(overrides: list[str], problem: str) -> None:
    assert error_of(*overrides).startswith(problem)
