"""`state_gae`: values counted from other trajectories' visits, and what they do to the advantages."""

import numpy as np
import pytest
from credit_pieces import rewards

from turnwise.credit.estimators.state_gae import StateGae, StateGaeConfig
from turnwise.credit.estimators.turn_loo import TurnLoo, TurnLooConfig


def estimate(batch, **options):
    return StateGae(StateGaeConfig(**options)).estimate(batch)


def maze(**changes):
    """One group. States: a start s, a fork f; the third trajectory goes through f twice."""
    given = {
        "groups": ["g"] * 3,
        "turn_rewards": [[0.0, 0.0], [0.5, 0.0], [0.0, 0.0, 0.0]],
        "outcomes": [1.0, 0.0, 1.0],
        "state_keys": [["s", "f"], ["s", "f"], ["s", "f", "f"]],
    }
    return rewards(**(given | changes))


def test_a_value_is_the_mean_over_the_others_visits():
    found = estimate(maze(), lam=0.0)
    # returns of the three: [1, 1], [0.5, 0], [1, 1, 1]
    start = [(0.5 + 1) / 2, (1 + 1) / 2, (1 + 0.5) / 2]
    fork = [(0 + 1 + 1) / 3, (1 + 1 + 1) / 3, (1 + 0) / 2]
    expected = [
        [fork[0] - start[0], 1 - fork[0], 0.0],
        [0.5 + fork[1] - start[1], 0 - fork[1], 0.0],
        [fork[2] - start[2], fork[2] - fork[2], 1 - fork[2]],
    ]
    np.testing.assert_allclose(found.values, expected)
    assert found.mask.tolist() == [[True, True, False], [True, True, False], [True, True, True]]


def test_the_trace_mixes_the_steps_as_generalised_advantage_estimation_does():
    one_step, traced = estimate(maze(), lam=0.0, gamma=0.9), estimate(maze(), lam=0.7, gamma=0.9)
    deltas = one_step.values
    decay = 0.9 * 0.7
    np.testing.assert_allclose(traced.values[2, 2], deltas[2, 2])
    np.testing.assert_allclose(traced.values[2, 1], deltas[2, 1] + decay * deltas[2, 2])
    np.testing.assert_allclose(traced.values[2, 0], deltas[2, 0] + decay * deltas[2, 1] + decay**2 * deltas[2, 2])


@pytest.mark.parametrize("keys", [(), [[None, None], [None, None], [None] * 3]], ids=["no keys", "all None"])
@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_without_keys_and_with_the_whole_trace_it_is_turn_loo(keys, gamma):
    batch = maze(state_keys=keys)
    ours, other = estimate(batch, lam=1.0, gamma=gamma), TurnLoo(TurnLooConfig(gamma=gamma)).estimate(batch)
    np.testing.assert_allclose(ours.values, other.values, atol=1e-12)
    assert (ours.mask == other.mask).all()


def test_states_of_different_groups_are_different():
    alone = estimate(maze(), lam=0.5).values
    twice = maze(
        groups=["g"] * 3 + ["h"] * 3,
        turn_rewards=[[0.0, 0.0], [0.5, 0.0], [0.0, 0.0, 0.0]] + [[9.0, 9.0]] * 3,
        outcomes=[1.0, 0.0, 1.0, 7.0, 7.0, 7.0],
        state_keys=[["s", "f"], ["s", "f"], ["s", "f", "f"]] + [["s", "f"]] * 3,
    )
    np.testing.assert_allclose(estimate(twice, lam=0.5).values[:3], alone)


def test_own_visits_are_in_no_value_of_ones_own():
    """A trajectory's later luck at a state that it visits again leaves its own earlier baseline as it was."""
    low, high = (
        estimate(maze(turn_rewards=[[0.0, 0.0], [0.5, 0.0], [0.0, 0.0, bonus]]), lam=1.0).values[2] for bonus in (0, 8)
    )
    np.testing.assert_allclose(high - low, 8.0)


def test_a_masked_return_is_in_no_value_and_its_turns_are_not_trained_on():
    found = estimate(maze(masked_outcomes=[0]), lam=0.0)
    assert found.mask.tolist() == [[False] * 3, [True, True, False], [True, True, True]]
    np.testing.assert_allclose(found.values[1, 1], 0.0 - 1.0)  # the others' visits of f: the third's two, both 1


def test_a_lone_trajectory_has_no_baseline():
    lone = rewards(["g"], [[0.0, 1.0]], [1.0], state_keys=[["s", "s"]])
    assert not estimate(lone).mask.any()
    raw = estimate(lone, singleton="raw", lam=1.0)
    assert raw.values.tolist() == [[2.0, 2.0]]
    assert raw.mask.all()


def test_it_has_less_variance_than_turn_loo_where_chance_follows_an_action():
    """One choice, then a coin that no choice influences: its outcome does not reach the first turn's advantage."""
    rng = np.random.default_rng(0)
    choices, coins = rng.integers(0, 2, 3200), rng.integers(0, 2, 3200)
    batch = rewards(
        [f"g{i // 32}" for i in range(3200)],
        [[0.1 * choice, 0.0] for choice in choices],
        coins.astype(float),
        state_keys=[["start", "coin"]] * 3200,
    )
    ours, other = estimate(batch, lam=0.0), TurnLoo(TurnLooConfig()).estimate(batch)
    assert ours.values[:, 0].var() < 0.2 * other.values[:, 0].var()
