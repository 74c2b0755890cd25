"""The worked cases of reward construction: gates, shapings, combinations."""

import numpy as np
import pytest
from fusion_pieces import fusion, of_channels
from golden_cases import CLOSE, assert_turns, covers, expected, inputs

from turnwise.credit.correlation import whitened_uniform
from turnwise.credit.estimators.grpo import Grpo, GrpoConfig
from turnwise.credit.estimators.rloo import Rloo, RlooConfig
from turnwise.credit.fusions.overlong import overlong_penalty
from turnwise.credit.fusions.tiers import tier
from turnwise.credit.returns import rewards_with_outcome, trajectory_scores
from turnwise.env.attempts import attempt_reward, repetition_penalty
from turnwise_rewards.progress import attribution_error


def of_wholes(**channels):
    """One group of trajectories of two turns, scored as wholes."""
    count = len(next(iter(channels.values())))
    return of_channels(["a"] * count, [2] * count, **{name: (None, scores) for name, scores in channels.items()})


def c_grpo(name):
    given = inputs(name)
    batch = of_wholes(outcome=given["outcome"], rubric=given["rubric"])
    return fusion("only_positive", alpha=given["alpha"]).fuse(batch)


@covers("c_grpo_reward_paper")
def test_the_outcome_weighed_by_the_rubric_is_that_of_the_papers_figure():
    fused = c_grpo("c_grpo_reward_paper")
    np.testing.assert_allclose(fused.outcome["outcome"], expected("c_grpo_reward_paper")["reward"], **CLOSE)


@covers("c_grpo_reward_group_max_incl_incorrect")
def test_the_best_rubric_of_the_group_may_be_that_of_a_wrong_answer():
    wanted = expected("c_grpo_reward_group_max_incl_incorrect")
    fused = c_grpo("c_grpo_reward_group_max_incl_incorrect")
    np.testing.assert_allclose(fused.outcome["outcome"], wanted["paper_reward"], **CLOSE)
    # not this: the released code puts the raw rubric score for the relative one
    assert np.abs(fused.outcome["outcome"] - wanted["released_code_reward"]).max() > 0.02
    weighted = of_wholes(outcome=fused.outcome["outcome"].tolist())
    advantages = Grpo(GrpoConfig()).estimate(weighted).values
    np.testing.assert_allclose(advantages[:, 0], wanted["grpo_advantage_paper"], **CLOSE)


def spa_rl():
    given = inputs("spa_rl")
    return of_channels(
        ["a"] * 4,
        [len(row) for row in given["contribution"]],
        contribution=(given["contribution"], None),
        grounded=(given["grounded"], None),
        outcome=(None, given["outcome"]),
        progress=(None, None),
    )


@covers("spa_rl")
def test_progress_rewards_are_contribution_and_grounding():
    given, wanted, batch = inputs("spa_rl"), expected("spa_rl"), spa_rl()
    fused = fusion("progress", alpha=given["alpha"], beta=given["beta"]).fuse(batch)
    assert_turns(fused.turn["progress"], wanted["turn_reward"])
    error = attribution_error(batch.turn["contribution"], batch.turn_exists, batch.outcome["outcome"])
    assert error == pytest.approx(wanted["mse"])


@covers("spa_rl_released_override")
def test_what_the_released_script_puts_for_progress_is_leave_one_out_of_outcomes():
    outcomes = inputs("spa_rl_released_override")["outcome"]
    override = np.asarray(expected("spa_rl_released_override")["turn_value"])
    found = Rloo(RlooConfig()).estimate(of_wholes(outcome=outcomes))
    np.testing.assert_allclose(found.values, np.repeat(override[:, None], 2, axis=1), **CLOSE)
    # not this: our progress differs between turns, and does not look at the outcome
    first = fusion("progress").fuse(spa_rl()).turn["progress"][0]
    assert np.ptp(first) > 0.1


@covers("g_ra")
def test_gated_rewards_are_those_of_the_goldens():
    given, wanted = inputs("g_ra")["trajectories"], expected("g_ra")
    batch = of_channels(
        ["a", "a"],
        [3, 3],
        format=([one["format"] for one in given], None),
        tool=([one["tool"] for one in given], None),
        outcome=(None, [one["outcome"] for one in given]),
    )
    fused = fusion("gate").fuse(batch)
    for rewards, key in ((batch, "direct"), (fused, "gated")):
        sums = sum(trajectory_scores(rewards, name)[0] for name in ("format", "tool", "outcome"))
        np.testing.assert_allclose(sums, wanted[key], **CLOSE)
    by_turn = sum(rewards_with_outcome(fused, name)[0] for name in ("format", "tool", "outcome"))
    assert_turns(by_turn, wanted["gated_turn_reward"])


@covers("ppr_renorm")
def test_renormalised_process_rewards_are_those_of_the_goldens():
    given = inputs("ppr_renorm")
    scores = [[score or 0.0 for score in row] for row in given["process_score"]]  # null: not judged
    num_turns = [len(row) for row in scores]
    batch = of_channels(["a"] * 3, num_turns, process=(scores, None), outcome=(None, given["outcome"]))
    fused = fusion("renorm", beta=given["beta"]).fuse(batch)
    by_turn = sum(rewards_with_outcome(fused, name)[0] for name in ("process", "outcome"))
    assert_turns(by_turn, expected("ppr_renorm")["turn_reward"])


@covers("ssl_tiers")
def test_tiers_are_those_of_the_goldens():
    given, wanted = inputs("ssl_tiers"), expected("ssl_tiers")
    batch = of_wholes(outcome=given["correct"], proximity=given["proximity"])
    fused = fusion("tiers", num_tiers=given["K"], alpha=given["alpha"]).fuse(batch)
    np.testing.assert_allclose(fused.outcome["outcome"], wanted["reward"], **CLOSE)
    np.testing.assert_array_equal(tier(np.asarray(given["proximity"]), given["K"]), wanted["tier"])


@covers("par")
def test_preference_is_that_of_the_goldens():
    given, wanted = inputs("par"), expected("par")
    names = [f"reference{m}" for m in range(len(given["ref_rewards"]))]
    references = {name: [score] * 3 for name, score in zip(names, given["ref_rewards"], strict=True)}
    batch = of_wholes(outcome=given["reward"], **references)
    for some, key in ((names, "shaped"), (names[:1], "single_ref")):
        fused = fusion("preference", references=some, k=given["k"]).fuse(batch)
        np.testing.assert_allclose(fused.outcome["outcome"], wanted[key], **CLOSE)


@covers("ufo")
def test_rewards_of_trying_again_are_those_of_the_goldens():
    given = inputs("ufo")
    cases = zip(given["answers"], given["correct_at_attempt"], expected("ufo")["result"], strict=True)
    for answers, solved_at, wanted in cases:
        success = attempt_reward(solved_at, given["gamma"])
        penalty = repetition_penalty(answers, given["lam"])
        assert success == pytest.approx(wanted["success_reward"])
        assert penalty == pytest.approx(wanted["penalty"])
        assert success - penalty == pytest.approx(wanted["total"])


def test_answers_are_equal_but_for_case_and_white_space():
    assert repetition_penalty(["Four  apples", " four APPLES"], lam=1.0) == 0.5
    assert repetition_penalty([]) == 0.0


@covers("rrd_wu")
def test_whitened_uniform_weights_are_those_of_the_goldens():
    sigma, wanted = np.asarray(inputs("rrd_wu")["corr"]), expected("rrd_wu")
    weights = whitened_uniform(sigma, 0.0)
    np.testing.assert_allclose(weights, wanted["weight"], **CLOSE)
    np.testing.assert_allclose(weights / weights.sum(), wanted["weight_sum1"], **CLOSE)
    np.testing.assert_allclose(whitened_uniform(sigma, 1e-3), wanted["weight"], atol=1e-3)


@covers("dapo_overlong")
def test_the_overlong_penalty_is_that_of_the_goldens():
    given, wanted = inputs("dapo_overlong"), expected("dapo_overlong")["penalty"]
    lengths, limits = np.asarray(given["lengths"]), (given["max_len"], given["buffer"], given["factor"])
    np.testing.assert_allclose(overlong_penalty(lengths, *limits, False), wanted, **CLOSE)
    # the paper's ends at the factor
    np.testing.assert_allclose(overlong_penalty(lengths, *limits, True), np.maximum(wanted, -1.0), **CLOSE)


@pytest.mark.parametrize("is_bounded", [True, False])
def test_the_fusion_counts_the_policys_tokens_over_all_turns(is_bounded):
    given, wanted = inputs("dapo_overlong"), np.asarray(expected("dapo_overlong")["penalty"])
    tokens = np.asarray([[length // 2, length - length // 2] for length in given["lengths"]])
    batch = of_channels(["a"] * 5, [2] * 5, num_tokens=tokens, overlong=(None, None))
    built = fusion("overlong", max_tokens=given["max_len"], buffer=given["buffer"], is_bounded=is_bounded)
    found = built.fuse(batch)
    np.testing.assert_allclose(found.outcome["overlong"], np.maximum(wanted, -1.0) if is_bounded else wanted, **CLOSE)
    assert not found.turn["overlong"].any()
