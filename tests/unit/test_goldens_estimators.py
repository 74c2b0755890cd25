"""Worked numbers of estimators: baselines, whitening, GAE, turn groups and states (algorithms.md 3.2-3.8, 4.17)."""

import dataclasses

import numpy as np
import pytest
from golden_cases import BATCH, CLOSE, assert_turns, covers, expected, inputs, of_batch

from turnwise.credit.baseline import group_codes
from turnwise.credit.estimators.bi_level_gae import BiLevelGae, BiLevelGaeConfig
from turnwise.credit.estimators.dr_grpo import DrGrpo, DrGrpoConfig
from turnwise.credit.estimators.gigpo import Gigpo, GigpoConfig
from turnwise.credit.estimators.grpo_turn import GrpoTurn, GrpoTurnConfig
from turnwise.credit.estimators.opo import Opo, OpoConfig
from turnwise.credit.estimators.reinforce_pp import ReinforcePp, ReinforcePpConfig
from turnwise.credit.estimators.reinforce_pp_baseline import ReinforcePpBaseline, ReinforcePpBaselineConfig
from turnwise.credit.estimators.trloo import Trloo, TrlooConfig, leave_one_out
from turnwise.credit.estimators.turn_gae import TurnGae, TurnGaeConfig, normalise
from turnwise.credit.estimators.vpr import compare
from turnwise.credit.estimators.vpr_turn_index import VprTurnIndex, VprTurnIndexConfig
from turnwise.credit.gae import anchor_values, gae, within_turns
from turnwise.credit.returns import turn_returns
from turnwise.credit.tokens import TokenLayout, discounted_returns
from turnwise.credit.whiten import whiten

MASK = np.asarray(BATCH["concat_mask"], dtype=bool)
TURN_ID = np.asarray(BATCH["concat_turn_id"])
WHITENED = {"rtol": 0.0, "atol": 1e-8}
"""The authors' masked mean adds 1e-8 to its count. Ours does not, so that equal values whiten to 0."""


def sized(batch):
    """The batch with the shared example's numbers of action tokens."""
    num_tokens = np.zeros_like(batch.num_tokens)
    for row, sizes in zip(num_tokens, BATCH["tokens_per_turn"], strict=True):
        row[: len(sizes)] = sizes
    return dataclasses.replace(batch, num_tokens=num_tokens)


def valued(batch, values):
    """The batch with a value a turn, ragged, on the channel "value"."""
    table = np.zeros(batch.turn_exists.shape)
    table[batch.turn_exists] = [value for row in values for value in row]
    none, known = np.zeros(len(table)), np.ones(len(table), dtype=bool)
    return dataclasses.replace(
        batch,
        turn={**batch.turn, "value": table},
        turn_mask={**batch.turn_mask, "value": batch.turn_exists},
        outcome={**batch.outcome, "value": none},
        outcome_mask={**batch.outcome_mask, "value": known},
        weights={**batch.weights, "value": 0.0},
    )


def assert_tokens(turns, wanted, mask=MASK, **close):
    """Compare values of turns [N, K] with those of tokens in the shared example's layout."""
    spread = np.where(mask, np.take_along_axis(turns, np.maximum(TURN_ID, 0), axis=1), 0.0)
    np.testing.assert_allclose(spread, wanted, **(close or CLOSE))


@covers("dr_grpo")
def test_dr_grpo_subtracts_the_mean_alone():
    found = DrGrpo(DrGrpoConfig(singleton="raw")).estimate(of_batch(turns=False, outcomes=True))
    assert_turns(found.values, expected("dr_grpo")["turn_advantage"])


@covers("opo")
def test_opo_weighs_the_baseline_by_action_tokens():
    batch = sized(of_batch(turns=False, outcomes=True))
    assert batch.num_tokens.sum(axis=1).tolist() == inputs("opo")["lengths"]
    found = Opo(OpoConfig(singleton="raw")).estimate(batch)
    np.testing.assert_allclose(found.values[:, 0], expected("opo")["traj_advantage"], **CLOSE)


@covers("reinforce_pp", "reinforce_pp_carry")
def test_reinforce_pp_carries_the_return_over_observations_unlike_the_released_code():
    case, released = expected("reinforce_pp_carry"), expected("reinforce_pp")
    returns = discounted_returns(np.asarray(inputs("reinforce_pp_carry")["token_level_rewards"]), MASK, 1.0)
    np.testing.assert_allclose(returns, case["returns"], **CLOSE)
    np.testing.assert_allclose(whiten(returns, MASK), case["token_advantage"], **WHITENED)
    found = ReinforcePp(ReinforcePpConfig()).estimate(sized(of_batch(turns=False, outcomes=True)))
    assert_tokens(found.values, case["token_advantage"], **WHITENED)
    assert found.tokens is None
    # the released form loses the outcome at every observation: the first two turns of A0 get nothing of it
    assert returns[0, [0, 1, 3]].tolist() == [1.0, 1.0, 1.0]
    assert [released["returns"][0][t] for t in (0, 1, 3)] == [0.0, 0.0, 0.0]


@covers("reinforce_pp_baseline")
def test_reinforce_pp_with_a_baseline_whitens_over_tokens():
    found = ReinforcePpBaseline(ReinforcePpBaselineConfig(singleton="raw")).estimate(
        sized(of_batch(turns=False, outcomes=True))
    )
    assert_tokens(found.values, expected("reinforce_pp_baseline")["token_advantage"], **WHITENED)


@covers("token_gae_g1_l1", "token_gae_g099_l095")
@pytest.mark.parametrize("name", ["token_gae_g1_l1", "token_gae_g099_l095"])
def test_token_gae_hands_value_and_trace_over_observations(name):
    given, case = inputs(name), expected(name)
    values = np.asarray(given["values"])
    raw = gae(np.asarray(given["token_level_rewards"]), values, MASK, given["gamma"], given["lam"])
    np.testing.assert_allclose(raw, case["raw_advantage"], **CLOSE)
    np.testing.assert_allclose(np.where(MASK, raw + values, 0.0), case["returns"], **CLOSE)
    np.testing.assert_allclose(whiten(raw, MASK), case["token_advantage"], **WHITENED)


@covers("vagen_bi_level_gae", "vagen_bi_level_gae_g09_l08")
@pytest.mark.parametrize("name", ["vagen_bi_level_gae", "vagen_bi_level_gae_g09_l08"])
def test_bi_level_gae_goes_over_turns_and_then_within_each(name):
    given, case = inputs(name), expected(name)
    values, batch = np.asarray(given["values"]), of_batch(turns=True, outcomes=False)
    at_ends = anchor_values(values, TURN_ID, 3, "last")
    turns = gae(batch.turn["x"], at_ends, batch.turn_exists, given["gamma_turn"], given["lam"])
    assert_turns(turns, case["turn_gae"])
    tokens = within_turns(turns, values, TURN_ID, given["gamma_token"], given["lam"])
    np.testing.assert_allclose(tokens, case["raw_token_advantage"], **CLOSE)
    np.testing.assert_allclose(np.where(MASK, tokens + values, 0.0), case["returns"], **CLOSE)
    np.testing.assert_allclose(whiten(tokens, MASK), case["token_advantage"], **WHITENED)


def test_bi_level_gae_of_one_value_a_turn_is_turn_gae_where_nothing_fades_within_turns():
    batch = valued(sized(of_batch(turns=True, outcomes=False)), inputs("vpr_turn_level_ppo")["turn_value"])
    turns = TurnGae(TurnGaeConfig(gamma=0.95, lam=1.0, normalise="none")).estimate(batch)
    found = BiLevelGae(BiLevelGaeConfig(whiten=False)).estimate(batch)
    np.testing.assert_allclose(found.values, turns.values, **CLOSE)
    assert [[len(tokens) for tokens in row] for row in found.tokens] == BATCH["tokens_per_turn"]
    assert all(np.ptp(tokens) < 1e-12 for row in found.tokens for tokens in row)


@covers("vagen_turn_wise_gae")
def test_turn_wise_gae_whitens_with_one_vote_a_turn():
    given, case = inputs("vagen_turn_wise_gae"), expected("vagen_turn_wise_gae")
    at_ends = anchor_values(np.asarray(given["values"]), TURN_ID, 3, "last")
    batch = valued(sized(of_batch(turns=True, outcomes=False)), ragged(at_ends))
    raw = TurnGae(TurnGaeConfig(gamma=given["gamma_turn"], lam=given["lam"], normalise="none")).estimate(batch)
    assert_turns(raw.values, case["turn_gae"])
    found = TurnGae(TurnGaeConfig(gamma=given["gamma_turn"], lam=given["lam"], normalise="turns")).estimate(batch)
    assert_tokens(found.values, case["token_advantage"], **WHITENED)


@covers("no_concat_gae_last", "no_concat_gae_first")
@pytest.mark.parametrize("anchor", ["last", "first"])
def test_no_concat_gae_is_the_same_recursion_with_another_anchor_and_one_vote_a_token(anchor):
    given, case = inputs(f"no_concat_gae_{anchor}"), expected(f"no_concat_gae_{anchor}")
    row_mask = np.asarray(given["row_mask"], dtype=bool)
    in_rows = anchor_values(np.asarray(given["row_values"]), np.where(row_mask, 0, -1), 1, anchor)[:, 0]
    batch = sized(of_batch(turns=True, outcomes=False))
    values = np.zeros(batch.turn_exists.shape)
    values[batch.turn_exists] = in_rows
    turns = gae(batch.turn["x"], values, batch.turn_exists, given["gamma"], given["lam"])
    assert_turns(turns, case["turn_gae"])
    # what a critic would be trained towards, which stands at the anchor's place alone
    returns = [[x for x in row if x != given["ignore_value"]] for row in case["row_returns"]]
    np.testing.assert_allclose((turns + values)[batch.turn_exists], np.concatenate(returns), **CLOSE)
    found = TurnGae(TurnGaeConfig(gamma=0.95, lam=0.9, normalise="tokens")).estimate(valued(batch, ragged(values)))
    spread = np.where(row_mask, found.values[batch.turn_exists][:, None], 0.0)
    np.testing.assert_allclose(spread, case["row_token_advantage"], **WHITENED)


@covers("vpr_turn_level_ppo")
def test_turn_level_ppo_divides_by_the_population_deviation():
    given, case = inputs("vpr_turn_level_ppo"), expected("vpr_turn_level_ppo")
    batch = valued(of_batch(turns=True, outcomes=False), given["turn_value"])
    raw = TurnGae(TurnGaeConfig(gamma=1.0, lam=1.0, normalise="none")).estimate(batch)
    assert_turns(raw.values, case["raw"])
    found = TurnGae(TurnGaeConfig(gamma=1.0, lam=1.0, normalise="population")).estimate(batch)
    assert_turns(found.values, case["turn_advantage"])
    other = normalise(raw.values, raw.mask, batch.num_tokens, "turns")
    assert np.abs(other - found.values).max() > 0.05  # the unbiased deviation is another number


@covers("gigpo_mean_norm", "gigpo_mean_std_norm", "gigpo_mean_norm_cross_steps", "gigpo_mean_std_norm_cross_steps")
@pytest.mark.parametrize("cross_steps", [False, True])
@pytest.mark.parametrize("norm", ["mean_norm", "mean_std_norm"])
def test_gigpo_adds_the_comparison_within_states(norm, cross_steps):
    name = f"gigpo_{norm}" + ("_cross_steps" if cross_steps else "")
    batch = of_batch(turns=True, outcomes=False, state_keys=inputs(name)["anchor_obs"])
    options = {"norm": norm, "cross_steps": cross_steps, "singleton": "raw"}
    found = Gigpo(GigpoConfig(**options)).estimate(batch)
    assert_turns(found.values, expected(name)["turn_advantage"])
    trajectories = Gigpo(GigpoConfig(**options, omega=0.0)).estimate(batch).values
    if cross_steps:
        assert_turns(trajectories, expected(name)["episode_advantage"])
    else:
        np.testing.assert_allclose(trajectories[:, 0], expected(name)["episode_advantage"], **CLOSE)
        assert_turns(found.values - trajectories, expected(name)["step_advantage"])


@covers("trloo")
def test_trloo_compares_with_the_others_that_got_there():
    found = Trloo(TrlooConfig(singleton="raw")).estimate(of_batch(turns=True, outcomes=False))
    assert_turns(found.values, expected("trloo")["turn_advantage"])


@covers("trloo_loss_mask")
def test_a_turn_that_is_only_kept_from_training_keeps_its_reward_in_earlier_returns():
    batch, wanted = of_batch(turns=True, outcomes=False), expected("trloo_loss_mask")["turn_advantage"]
    row, turn = BATCH["traj"].index("A2"), 1
    returns, known = turn_returns(batch, "x", 1.0)
    counted = known & batch.turn_exists
    counted[row, turn] = False
    advantages, _ = leave_one_out(returns, counted, group_codes(batch.group))
    assert_turns(advantages, wanted)
    # a masked score says more, that the reward is not known: the turn before is not trained on either
    masked = of_batch(turns=True, outcomes=False, masked_turns=[(row, turn)])
    found = Trloo(TrlooConfig(singleton="raw")).estimate(masked)
    assert found.mask[row].tolist() == [False, False, True]
    assert found.values[row, 2] == pytest.approx(wanted[row][2])
    assert found.values[0, 0] == pytest.approx(1.5 - 0.2)


@covers("grpo_turn_self_inclusive")
def test_turn_wise_grpo_includes_the_turn_itself():
    found = GrpoTurn(GrpoTurnConfig(singleton="raw")).estimate(of_batch(turns=True, outcomes=False))
    assert_turns(found.values, expected("grpo_turn_self_inclusive")["turn_advantage"])


@covers("vpr_state_group", "vpr_group_whiten")
@pytest.mark.parametrize(
    ("name", "norm"), [("vpr_state_group", "mean_then_batch_whiten"), ("vpr_group_whiten", "group_whiten")]
)
def test_vpr_compares_actions_of_one_state_and_leaves_equal_ones_out(name, norm):
    rewards = np.asarray([state["r"] for state in inputs(name)["state_groups"]])
    states = np.broadcast_to(np.arange(len(rewards))[:, None], rewards.shape)
    found, teaches = compare(rewards.reshape(-1), states.reshape(-1), norm)
    np.testing.assert_allclose(found.reshape(rewards.shape), expected(name)["advantage"], **CLOSE)
    assert teaches.reshape(rewards.shape).astype(int).tolist() == expected("vpr_state_group")["train_mask"]


@covers("vpr_turn_index")
def test_vpr_without_states_compares_turns_of_one_index():
    minimum = inputs("vpr_turn_index")["min_group_size"]
    found = VprTurnIndex(VprTurnIndexConfig(min_turns=minimum)).estimate(of_batch(turns=True, outcomes=False))
    assert_turns(found.values, expected("vpr_turn_index")["turn_advantage"])


def test_the_layout_of_action_tokens_is_the_shared_example_without_its_observations():
    batch = sized(of_batch(turns=True, outcomes=False))
    layout = TokenLayout.of(batch)
    for row, wanted in zip(layout.turn_id, BATCH["concat_turn_id"], strict=True):
        assert [k for k in row if k >= 0] == [k for k in wanted if k >= 0]
    placed = layout.at_ends(batch.turn["x"])
    for row, wanted, mask in zip(placed, inputs("token_gae_g1_l1")["token_level_rewards"], MASK, strict=True):
        assert row[: mask.sum()].tolist() == [x for x, is_token in zip(wanted, mask, strict=True) if is_token]


def ragged(values):
    """The turns' values without padding."""
    return [row[: len(turns)] for row, turns in zip(values, BATCH["turn_reward"], strict=True)]
