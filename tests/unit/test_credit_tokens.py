"""Estimators that tell the tokens of a turn apart, and the layout that they share."""

import dataclasses

import numpy as np
import pytest
from credit_pieces import rewards, trajectory

from turnwise.credit.estimators.bi_level_gae import BiLevelGae, BiLevelGaeConfig
from turnwise.credit.estimators.reinforce_pp import ReinforcePp, ReinforcePpConfig
from turnwise.credit.spread import to_tokens
from turnwise.credit.tokens import TokenLayout, discounted_returns
from turnwise.credit.whiten import standardise, whiten


def sized(sizes, turn_rewards, outcomes, **more):
    batch = rewards(["g"] * len(sizes), turn_rewards, outcomes, **more)
    num_tokens = np.zeros_like(batch.num_tokens)
    for row, given in zip(num_tokens, sizes, strict=True):
        row[: len(given)] = given
    return dataclasses.replace(batch, num_tokens=num_tokens)


def test_reinforce_pp_discounts_by_action_token_and_carries_over_turns():
    batch = sized([[2, 3], [1]], [[0.5, 1.0], [0.0]], [0.0, 2.0])
    found = ReinforcePp(ReinforcePpConfig(gamma=0.5)).estimate(batch)
    raw = [[0.5 * (0.5 + 0.125), 0.5 + 0.125, 0.25, 0.5, 1.0], [2.0]]
    flat = np.concatenate(raw)
    wanted = (flat - flat.mean()) / np.sqrt(flat.var(ddof=1) + 1e-8)
    assert [[len(tokens) for tokens in row] for row in found.tokens] == [[2, 3], [1]]
    np.testing.assert_allclose(np.concatenate([tokens for row in found.tokens for tokens in row]), wanted)
    np.testing.assert_allclose(found.values[0], [wanted[:2].mean(), wanted[2:5].mean()])
    spread = to_tokens(found, [trajectory("g", 0, [2, 3]), trajectory("g", 1, [1])])
    np.testing.assert_allclose(spread[0][1][0], wanted[2:5], rtol=1e-6)


def test_a_masked_outcome_is_in_no_token_statistic():
    batch = sized([[2], [3], [2]], [[1.0], [0.0], [0.0]], [0.0, 9.0, 0.0], masked_outcomes=[1])
    found = ReinforcePp(ReinforcePpConfig()).estimate(batch)
    assert found.mask[:, 0].tolist() == [True, False, True]
    np.testing.assert_allclose(found.values[:, 0], [0.8660254, 0.0, -0.8660254], atol=1e-6)


def test_the_reward_of_a_turn_without_tokens_goes_to_the_token_before():
    batch = sized([[2, 0, 1], [0, 1, 1]], [[0.0, 1.0, 4.0], [8.0, 2.0, 0.0]], [0.0, 0.0])
    layout = TokenLayout.of(batch)
    assert layout.turn_id.tolist() == [[0, 0, 2], [1, 2, -1]]
    assert layout.at_ends(batch.turn["x"]).tolist() == [[0.0, 1.0, 4.0], [2.0, 0.0, 0.0]]
    assert [[len(tokens) for tokens in row] for row in layout.split(np.zeros((2, 3)))] == [[2, 0, 1], [0, 1, 1]]
    found = ReinforcePp(ReinforcePpConfig(gamma=0.9)).estimate(batch)
    assert np.isfinite(found.values).all()


def test_observations_between_tokens_change_no_return():
    given, mask = np.asarray([[1.0, 2.0, 4.0]]), np.ones((1, 3), dtype=bool)
    wide = np.insert(given, 1, 7.0, axis=1), np.insert(mask, 1, False, axis=1)
    assert discounted_returns(*wide, 0.5)[wide[1]].tolist() == discounted_returns(given, mask, 0.5)[mask].tolist()


def test_bi_level_gae_lets_the_last_token_have_the_turns_advantage_and_fades_before_it():
    batch = sized([[3, 1]], [[0.0, 1.0]], [0.0])
    known = np.ones((1, 2), dtype=bool)
    batch = dataclasses.replace(
        batch,
        turn={**batch.turn, "value": np.asarray([[0.25, 0.5]])},
        turn_mask={**batch.turn_mask, "value": known},
        outcome={**batch.outcome, "value": np.zeros(1)},
        outcome_mask={**batch.outcome_mask, "value": known[:, 0]},
        weights={**batch.weights, "value": 0.0},
    )
    options = {"gamma_turn": 0.9, "gamma": 0.5, "lam": 0.0, "whiten": False}
    found = BiLevelGae(BiLevelGaeConfig(**options)).estimate(batch)
    np.testing.assert_allclose(found.tokens[0][0], [0.5 * 0.25 - 0.25, 0.5 * 0.25 - 0.25, 0.9 * 0.5 - 0.25])
    np.testing.assert_allclose(found.tokens[0][1], [0.5])


@pytest.mark.parametrize("normalise", [whiten, standardise])
def test_normalising_equal_values_or_nothing_gives_zeros(normalise):
    assert normalise(np.full(3, 0.1), np.ones(3, dtype=bool)).tolist() == pytest.approx([0.0] * 3, abs=1e-8)
    assert normalise(np.asarray([np.nan, 5.0]), np.asarray([False, True])).tolist() == [0.0, 0.0]
    assert normalise(np.asarray([np.nan]), np.asarray([False])).tolist() == [0.0]
    assert normalise(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool)).shape == (0, 3)
