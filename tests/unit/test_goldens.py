"""The numbers of tests/assets/goldens.json, which the methods' authors' own code reproduced."""

import numpy as np
import pytest
import torch
from golden_cases import CASES, CLOSE, GOLDENS, MASK, assert_turns, covers, of_batch
from objective_pieces import action_tokens

from turnwise.credit.estimators.grpo import Grpo, GrpoConfig
from turnwise.credit.estimators.rloo import Rloo, RlooConfig
from turnwise.credit.estimators.turn_loo import TurnLoo, TurnLooConfig
from turnwise.credit.returns import turn_returns
from turnwise.learner.divergence import k1, k2, k3
from turnwise.learner.objectives.ppo import Ppo, PpoConfig


@covers("returns_gamma_1.0", "returns_gamma_0.95")
@pytest.mark.parametrize("name", ["returns_gamma_1.0", "returns_gamma_0.95"])
def test_turn_returns_are_those_of_the_goldens(name):
    case = CASES[name]
    returns, known = turn_returns(of_batch(turns=True, outcomes=False), "x", case["inputs"]["gamma"])
    assert_turns(returns, case["expected"]["turn_return"])
    assert known.all()


@covers("grpo")
def test_grpo_is_that_of_the_goldens():
    found = Grpo(GrpoConfig(singleton="raw")).estimate(of_batch(turns=False, outcomes=True))
    assert_turns(found.values, CASES["grpo"]["expected"]["turn_advantage"])


@covers("rloo")
def test_rloo_is_that_of_the_goldens():
    found = Rloo(RlooConfig(singleton="raw")).estimate(of_batch(turns=False, outcomes=True))
    assert_turns(found.values, CASES["rloo"]["expected"]["turn_advantage"])


def test_rloo_times_n_minus_1_over_n_is_the_dr_grpo_of_the_goldens():
    found = Rloo(RlooConfig(singleton="raw")).estimate(of_batch(turns=False, outcomes=True))
    shrunk = found.values * np.asarray([2 / 3, 2 / 3, 2 / 3, 1.0])[:, None]
    assert_turns(shrunk, CASES["dr_grpo"]["expected"]["turn_advantage"])


def test_turn_loo_of_outcomes_alone_is_rloo():
    found = TurnLoo(TurnLooConfig(singleton="raw")).estimate(of_batch(turns=False, outcomes=True))
    assert_turns(found.values, CASES["rloo"]["expected"]["turn_advantage"])


def test_turn_loo_is_trloo_where_every_member_of_the_group_has_the_turn():
    found = TurnLoo(TurnLooConfig(singleton="raw")).estimate(of_batch(turns=True, outcomes=False))
    expected = CASES["trloo"]["expected"]["turn_advantage"]
    for row, wanted in zip(found.values[:, :2], expected, strict=True):
        np.testing.assert_allclose(row, wanted[:2], **CLOSE)
    # turn 2 of A0 and A2: TRLOO compares the two with each other, we also with A1's last return, 0
    np.testing.assert_allclose(found.values[[0, 2], 2], [1.0 - 0.0, 0.0 - 0.5], **CLOSE)


@covers("loss_ppo", "loss_dapo_clip_higher")
@pytest.mark.parametrize("name", ["loss_ppo", "loss_dapo_clip_higher"])
@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_sum", "seq_mean_token_mean"])
def test_ppo_losses_are_those_of_the_goldens(name, aggregate):
    inputs, expected = CASES[name]["inputs"], CASES[name]["expected"]
    config = PpoConfig(
        clip_low=inputs["clip_low"], clip_high=inputs["clip_high"], dual_clip=inputs["dual_clip_c"], aggregate=aggregate
    )
    tokens = action_tokens(Ppo(config), inputs["advantage"])
    losses, _ = Ppo(config).token_losses(tokens.logprobs - tokens.sampler, tokens.advantages)
    np.testing.assert_allclose(losses, np.asarray(expected["token_loss"])[MASK], **CLOSE)
    # the weights are float32
    tolerance = GOLDENS["tolerance"]["float32"]
    assert float(Ppo(config).loss(tokens).loss) == pytest.approx(expected[aggregate], rel=tolerance)


@covers("loss_dr_grpo")
def test_dr_grpo_loss_is_the_sum_of_tokens_over_a_constant_length():
    inputs, expected = CASES["loss_dr_grpo"]["inputs"], CASES["loss_dr_grpo"]["expected"]
    objective = Ppo(PpoConfig(aggregate="seq_mean_token_sum_norm", length=inputs["constant_length"]))
    loss = float(objective.loss(action_tokens(objective, inputs["advantage"])).loss)
    tolerance = GOLDENS["tolerance"]["float32"]  # the weights are float32
    assert loss == pytest.approx(expected["per_sequence_mean"], rel=tolerance)
    # the released sum is not divided by the number of sequences
    assert loss * len(MASK) == pytest.approx(expected["sum_over_L"], rel=tolerance)


@covers("loss_dual_clip")
def test_the_dual_clip_is_that_of_the_goldens():
    inputs, expected = CASES["loss_dual_clip"]["inputs"], CASES["loss_dual_clip"]["expected"]
    log_ratio = torch.tensor([inputs["ratio"]], dtype=torch.float64).log()
    advantage = torch.tensor([inputs["advantage"]], dtype=torch.float64)
    for dual_clip, key in ((inputs["c"], "token_loss"), (0.0, "without_dual_clip")):
        losses, _ = Ppo(PpoConfig(dual_clip=dual_clip)).token_losses(log_ratio, advantage)
        assert float(losses) == pytest.approx(expected[key])


@covers("kl_estimators")
def test_kl_estimators_are_those_of_the_goldens():
    case = CASES["kl_estimators"]
    logp, ref = (torch.tensor(case["inputs"][name], dtype=torch.float64) for name in ("logp", "ref_logp"))
    for name, estimate in (("k1", k1), ("k2", k2), ("k3", k3)):
        found = np.where(MASK, estimate(logp, ref).numpy(), 0.0)
        np.testing.assert_allclose(found, case["expected"][name], **CLOSE)
