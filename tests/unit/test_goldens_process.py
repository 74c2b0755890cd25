"""Worked cases of estimators that use turn scores, checklists or beliefs, and of the formulas that make turn scores."""

import dataclasses

import numpy as np
import pytest
from credit_pieces import rewards
from golden_cases import CLOSE, GOLDENS, assert_turns, covers, expected, inputs

from turnwise.credit import TurnRewards
from turnwise.credit.estimators.cm2 import Cm2, Cm2Config
from turnwise.credit.estimators.cm2_step import Cm2Step, Cm2StepConfig
from turnwise.credit.estimators.istar import Istar, IstarConfig
from turnwise.credit.estimators.mt_grpo import MtGrpo, MtGrpoConfig
from turnwise.credit.estimators.prime import Prime, PrimeConfig, at_last_token, prime_returns
from turnwise.credit.estimators.rebel import Rebel, RebelConfig
from turnwise.credit.estimators.verpo import Verpo, VerpoConfig
from turnwise.credit.whiten import whiten
from turnwise_rewards.checklist import checklist_score
from turnwise_rewards.difficulty import difficulty_weights, failure_weights, pass_rates, turn_scores
from turnwise_rewards.implicit import step_rewards, token_values, turn_rewards


def of_channels(groups, channels, *, weights=None, **changes):
    """Return rewards of several channels; `channels` are (ragged turn scores, outcomes) by name."""
    parts = {name: rewards(groups, turns, outcomes) for name, (turns, outcomes) in channels.items()}
    first = next(iter(parts.values()))
    return TurnRewards(
        group=first.group,
        num_turns=first.num_turns,
        num_tokens=changes.pop("num_tokens", first.num_tokens),
        turn={name: part.turn["x"] for name, part in parts.items()},
        turn_mask={name: part.turn_mask["x"] for name, part in parts.items()},
        outcome={name: part.outcome["x"] for name, part in parts.items()},
        outcome_mask={name: part.outcome_mask["x"] for name, part in parts.items()},
        weights=weights or dict.fromkeys(parts, 1.0),
        **changes,
    )


def with_process(groups, outcomes, scores, *, process="process", **changes):
    """Return rewards of an outcome and of a channel of turn scores."""
    zeros = [[0.0] * len(row) for row in scores]
    channels = {"outcome": (zeros, outcomes), process: (scores, [0.0] * len(groups))}
    return of_channels(groups, channels, **changes)


@covers("mt_grpo")
def test_mt_grpo_is_that_of_the_goldens():
    given, wanted = inputs("mt_grpo"), expected("mt_grpo")
    turns = [
        [score, 0.0] if has else [score] for score, has in zip(given["turn_reward"], given["has_result"], strict=True)
    ]
    batch = with_process(["a"] * 4, given["outcome_reward"], turns)
    found = MtGrpo(MtGrpoConfig(coef=given["turn_advantage_coef"], eps=given["eps"])).estimate(batch)
    for mask, values, tokens in zip(given["mask"], found.values, wanted["token_advantage"], strict=True):
        first_result = mask.index(0.0) if 0.0 in mask else len(mask)
        turn_of_token = (np.arange(len(mask)) >= first_result).astype(int)
        np.testing.assert_allclose(np.where(mask, values[turn_of_token], 0.0), tokens, **CLOSE)


def test_mt_grpo_takes_a_score_of_the_whole_trajectory_as_that_of_its_first_tool_call():
    given = inputs("mt_grpo")
    zeros = [[0.0, 0.0]] * 4
    channels = {"outcome": (zeros, given["outcome_reward"]), "process": (zeros, given["turn_reward"])}
    found = MtGrpo(MtGrpoConfig()).estimate(of_channels(["a"] * 4, channels))
    both = np.add(expected("mt_grpo")["adv_turn"], expected("mt_grpo")["adv_outcome"])
    np.testing.assert_allclose(found.values[:, 0], both, **CLOSE)


@covers("istar_step_reward")
def test_istar_step_rewards_are_those_of_the_goldens():
    given, wanted = inputs("istar_step_reward"), expected("istar_step_reward")
    log_ratio, turn_ids = np.asarray(given["token_log_ratio"]), np.asarray(given["turn_id"])
    assert_turns(turn_rewards(log_ratio, turn_ids, given["beta"]), wanted["step_reward"])
    assert_turns(turn_rewards(log_ratio, turn_ids, 1.0), wanted["sum_log_ratio"])


@covers("implicit_prm_q")
def test_implicit_values_and_their_step_rewards_are_those_of_the_goldens():
    given, wanted = inputs("implicit_prm_q"), expected("implicit_prm_q")
    q = token_values(np.asarray(given["token_log_ratio"]), given["beta"])
    np.testing.assert_allclose(q, wanted["q"], **CLOSE)
    np.testing.assert_allclose(step_rewards(q, given["step_ends"]), wanted["step_reward"], **CLOSE)
    assert q[-1] == pytest.approx(wanted["response_score"], abs=1e-9)
    assert 1 / (1 + np.exp(-q[-1])) == pytest.approx(wanted["prob"], abs=1e-9)


def istar(**options):
    given = inputs("istar_adv_paper")
    batch = with_process(given["group"], given["outcome"], given["step_reward"])
    return Istar(IstarConfig(singleton="raw", **options)).estimate(batch).values


@covers("istar_adv_paper")
def test_istar_in_the_papers_form_is_that_of_the_goldens():
    wanted = expected("istar_adv_paper")
    assert_turns(istar(baseline="paper"), wanted["turn_advantage"])
    episode = istar(baseline="paper", alpha=0.0)
    np.testing.assert_allclose(episode[:, 0], wanted["episode_advantage"], **CLOSE)


@covers("istar_adv_loo_traj")
def test_istar_without_the_own_trajectory_is_that_of_the_goldens_and_rloo():
    steps = istar() - istar(alpha=0.0)
    assert_turns(steps[:3], expected("istar_adv_loo_traj")["step_advantage"][:3])
    np.testing.assert_allclose(istar(alpha=0.0)[:, 0], [0.75, -0.75, 0.0, 1.0], **CLOSE)
    given = inputs("istar_adv_paper")
    batch = with_process(given["group"], given["outcome"], given["step_reward"])
    found = Istar(IstarConfig()).estimate(batch)
    # the golden's zeros of a group of one: by default it is not trained on
    assert_turns(found.values[3:], expected("istar_adv_loo_traj")["step_advantage"][3:])
    assert not found.mask[3].any()


@covers("istar_adv_code_rloo")
def test_istar_is_not_the_released_estimator_whose_step_baseline_is_the_row_seen_first():
    released = expected("istar_adv_code_rloo")
    experiment = GOLDENS["experiments"]["istar_step_adv_depends_on_row_order"]
    assert experiment["forward"][0] != experiment["reversed_rows"][0]
    np.testing.assert_allclose(experiment["forward"][0], released["step_advantage"][0], atol=2e-5)
    for options in ({}, {"baseline": "paper"}):
        found = istar(**options)
        for row, wanted in zip(found, released["turn_advantage"], strict=True):
            assert not np.allclose(row[: len(wanted)], wanted, atol=1e-3)
    # of the released number only the episode's part is ours: RLOO
    np.testing.assert_allclose(istar(alpha=0.0)[:, 0], released["episode_advantage"], **CLOSE)


@pytest.mark.parametrize("baseline", ["leave_one_out", "paper"])
def test_istar_does_not_depend_on_the_order_of_rows(baseline):
    given, estimator = inputs("istar_adv_paper"), Istar(IstarConfig(baseline=baseline, singleton="raw"))
    forward = estimator.estimate(with_process(given["group"], given["outcome"], given["step_reward"])).values
    backward = estimator.estimate(
        with_process(given["group"][::-1], given["outcome"][::-1], given["step_reward"][::-1])
    ).values
    np.testing.assert_allclose(backward[::-1], forward, atol=1e-12)


def test_istar_does_not_blow_up_the_noise_of_a_reward_model_that_has_learnt_nothing():
    groups, outcomes = ["a", "a"], [1.0, 0.0]
    noise = with_process(groups, outcomes, [[1e-9, -1e-9], [2e-9, 0.0]])
    silent = with_process(groups, outcomes, [[0.0, 0.0], [0.0, 0.0]])
    estimator = Istar(IstarConfig(baseline="paper", eps=1e-12))
    np.testing.assert_array_equal(estimator.estimate(noise).values, estimator.estimate(silent).values)
    unguarded = Istar(IstarConfig(baseline="paper", eps=1e-12, noise_floor=0.0)).estimate(noise).values
    assert np.abs(unguarded - estimator.estimate(silent).values).max() > 0.5
    small = Istar(IstarConfig()).estimate(noise).values - Istar(IstarConfig()).estimate(silent).values
    assert np.abs(small).max() < 1e-8


@covers("prime_rloo")
def test_prime_is_that_of_the_goldens_at_every_token():
    given, wanted = inputs("prime_rloo"), expected("prime_rloo")
    mask, codes = np.asarray(given["mask"], dtype=bool), np.zeros(4, dtype=np.int64)
    last, is_last = at_last_token(np.asarray(given["acc"]), np.ones(4, dtype=bool), mask)
    coefs = (given["reward_dpo_coef"], given["reward_gt_coef"])
    found, is_compared = prime_returns(np.asarray(given["token_process_reward"]), mask, last, is_last, codes, coefs)
    np.testing.assert_allclose(np.where(mask, found, 0.0), wanted["returns"], **CLOSE)
    assert is_compared.all()
    advantages = whiten(found, mask)
    np.testing.assert_allclose(advantages[mask], np.asarray(wanted["token_advantage"])[mask], **CLOSE)
    # the released function leaves -mean / std behind the end
    assert not advantages[~mask].any()
    np.testing.assert_allclose(np.asarray(wanted["token_advantage"])[~mask], -0.1495148757, **CLOSE)


def test_prime_of_turn_scores_is_prime_of_tokens_that_share_them():
    given, wanted = inputs("prime_rloo"), expected("prime_rloo")
    tokens = [
        [x for x, is_token in zip(*row, strict=True) if is_token]
        for row in zip(given["token_process_reward"], given["mask"], strict=True)
    ]
    counts = np.asarray([[int(k < len(row)) for k in range(4)] for row in tokens])
    batch = with_process(["a"] * 4, given["acc"], tokens, num_tokens=counts)
    found = Prime(PrimeConfig()).estimate(batch)
    for row, row_tokens, goal in zip(found.values, found.tokens, wanted["token_advantage"], strict=True):
        np.testing.assert_allclose(row[: len(row_tokens)], goal[: len(row_tokens)], **CLOSE)
        np.testing.assert_allclose(np.concatenate(row_tokens), goal[: len(row_tokens)], **CLOSE)
    halves = with_process(["a"] * 2, [1.0, 0.0], [[0.4], [0.0]], num_tokens=np.asarray([[2], [3]]))
    found = Prime(PrimeConfig(process_coef=1.0, outcome_coef=1.0, whiten=False)).estimate(halves)
    # the first of two tokens: both process parts, 0.2 x 2 - 0.2 each, and the outcome's 1 x 2 - 1
    np.testing.assert_allclose(found.tokens[0][0], [1.4, 1.2], **CLOSE)
    np.testing.assert_allclose(found.tokens[1][0], [-1.6, -1.4, -1.2], **CLOSE)


@covers("cm2_turn_adv", "cm2_turn_adv_small_group")
@pytest.mark.parametrize("name", ["cm2_turn_adv", "cm2_turn_adv_small_group"])
def test_cm2_by_turn_is_that_of_the_goldens(name):
    batch = rewards(["a"] * 6, inputs(name)["turn_score"], [0.0] * 6)
    found = Cm2(Cm2Config()).estimate(batch)
    assert_turns(found.values, expected(name)["turn_advantage"])
    enough = batch.turn_exists.sum(axis=0) >= 5
    assert (found.mask == batch.turn_exists & enough).all()


def test_cm2_divides_by_the_standard_deviation_if_asked():
    batch = rewards(["a"] * 6, inputs("cm2_turn_adv")["turn_score"], [0.0] * 6)
    scores = np.asarray([0.5, 0.25, 1.0, 0.75, 0.0, 0.5])
    found = Cm2(Cm2Config(std=True)).estimate(batch).values[:, 0]
    np.testing.assert_allclose(found, (scores - 0.5) / (scores.std(ddof=1) + 1e-6), **CLOSE)


@covers("cm2_checklist_turn_score")
def test_the_checklist_score_is_that_of_the_goldens():
    given = inputs("cm2_checklist_turn_score")
    found = checklist_score(np.asarray(given["steps"]), np.asarray(given["weights"]))
    assert found == pytest.approx(expected("cm2_checklist_turn_score")["turn_score"], abs=1e-9)


def checklist(steps, names=("first", "second"), weights=(0.6, 0.4)):
    """Return rewards of one channel an item; `steps` are [N][num_turns][num_items]."""
    items = {
        name: ([[float(passed[c]) for passed in row] for row in steps], [0.0] * len(steps))
        for c, name in enumerate(names)
    }
    return of_channels(["a"] * len(steps), items, weights=dict(zip(names, weights, strict=True)))


@covers("cm2_step_adv")
def test_cm2_by_step_is_that_of_the_goldens():
    given = inputs("cm2_step_adv")
    batch = checklist(given["steps"], weights=given["weights"])
    config = Cm2StepConfig(dependence={"second": ["first"]}, eta=given["eta"], min_group=given["threshold"] + 1)
    found = Cm2Step(config).estimate(batch)
    assert_turns(found.values, expected("cm2_step_adv")["step_advantage"])
    assert found.mask.all()
    # six trajectories could work at the first item, five at the second
    fewer = Cm2Step(dataclasses.replace(config, min_group=6)).estimate(batch)
    np.testing.assert_allclose(fewer.values[:, 1], [0.0, 0.1, 0.0, -0.5, 0.0, 0.0], **CLOSE)
    divided = Cm2Step(dataclasses.replace(config, divide=True)).estimate(checklist(given["steps"], weights=[1.2, 0.8]))
    np.testing.assert_allclose(divided.values, found.values, **CLOSE)


def test_an_item_of_cm2_by_step_fades_with_its_distance_from_completion():
    steps = [[[0], [0], [1]], [[1], [1], [1]]]
    batch = checklist(steps, names=["only"], weights=[1.0])
    found = Cm2Step(Cm2StepConfig(eta=0.5, min_group=2)).estimate(batch)
    mean = (0.25 + 1.0) / 2
    np.testing.assert_allclose(found.values, [[0.25 - mean, 0.5 - mean, 1.0 - mean], [1.0 - mean, 0.0, 0.0]], **CLOSE)


@covers("rebel")
def test_rebel_is_that_of_the_goldens():
    given, wanted = inputs("rebel"), expected("rebel")
    batch = with_process(
        given["group"], given["env_reward"], given["r_cons"], process="consistency", belief_keys=given["belief_key"]
    )
    config = RebelConfig(gamma=given["gamma"], step_weight=given["step_advantage_w"], singleton="raw")
    assert_turns(Rebel(config).estimate(batch).values, wanted["turn_advantage"])
    steps = (
        Rebel(config).estimate(batch).values
        - Rebel(dataclasses.replace(config, step_weight=0.0)).estimate(batch).values
    )
    assert_turns(steps / 0.5, wanted["step_advantage"])


def test_a_turn_of_rebel_without_a_key_has_the_episodes_part_alone():
    given = inputs("rebel")
    batch = with_process(
        ["a"] * 2, [1.0, 0.0], [[0.3, 0.1], [0.2]], process="consistency", belief_keys=[[None, "b"], ["c"]]
    )
    found = Rebel(RebelConfig(gamma=given["gamma"])).estimate(batch)
    assert found.values.tolist() == [[0.5, 0.5], [-0.5, 0.0]]


@covers("verpo", "verpo_simple")
def test_verpo_is_that_of_the_goldens():
    given, wanted = inputs("verpo"), expected("verpo")
    passes = np.asarray(given["test_pass"])
    np.testing.assert_allclose(pass_rates(passes), wanted["pass_rate"], **CLOSE)
    weights = difficulty_weights(passes, alpha=given["alpha"], sigma=given["sigma"], delta=given["delta"])
    np.testing.assert_allclose(weights, wanted["weight"], **CLOSE)
    scores = turn_scores(passes, weights)
    np.testing.assert_allclose(scores, wanted["turn_reward"], **CLOSE)
    batch = with_process(["a"] * 2, [0.0, 1.0], scores.reshape(2, 2).tolist())
    found = Verpo(VerpoConfig(beta=given["beta"], gamma=given["gamma"])).estimate(batch)
    np.testing.assert_allclose(found.values.reshape(-1), wanted["advantage"], **CLOSE)
    simple = failure_weights(np.asarray(inputs("verpo_simple")["test_pass"]))
    np.testing.assert_allclose(simple, expected("verpo_simple")["weight"], **CLOSE)
    np.testing.assert_allclose(turn_scores(passes, simple), expected("verpo_simple")["dense_reward"], **CLOSE)
    assert not failure_weights(np.ones((2, 3))).any()
