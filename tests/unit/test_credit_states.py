"""`gigpo` and `vpr`: turns compared with others in the same state."""

import numpy as np
import pytest
from credit_pieces import rewards

from turnwise import registry
from turnwise.config.plugins import build_plugin

KEYED = [name for name in registry.names("estimator") if getattr(registry.lookup("estimator", name), "needs_keys", 0)]
by_state = pytest.mark.parametrize("name", [name for name in KEYED if name in ("gigpo", "vpr")])
NORMS = {"gigpo": ("mean_norm", "mean_std_norm"), "vpr": ("mean_then_batch_whiten", "group_whiten")}


def estimate(name, batch, **options):
    found, config = build_plugin("estimator", {"name": name, **options})
    return found(config).estimate(batch)


def maze(**changes):
    """One group. States: a start s, a fork f; the third trajectory goes through f twice, the last turns are alone."""
    given = {
        "groups": ["g"] * 3,
        "turn_rewards": [[0.0, 1.0], [0.5, -1.0, 2.0], [0.0, 0.0, 0.5, 1.0]],
        "outcomes": [1.0, 0.0, 0.5],
        "state_keys": [["s", "f"], ["s", "f", "x"], ["s", "f", "f", None]],
    }
    return rewards(**(given | changes))


@by_state
def test_permuting_trajectories_with_their_states_permutes_the_output_only(name):
    for norm in NORMS[name]:
        plain = estimate(name, maze(), norm=norm)
        order = [2, 0, 1]
        given = maze()
        shuffled = maze(
            turn_rewards=[given.turn["x"][i, : given.num_turns[i]].tolist() for i in order],
            outcomes=given.outcome["x"][order],
            state_keys=[given.state_keys[i] for i in order],
        )
        found = estimate(name, shuffled, norm=norm)
        np.testing.assert_allclose(found.values, plain.values[order], atol=1e-12)
        assert (found.mask == plain.mask[order]).all()


@by_state
def test_equal_states_of_different_groups_are_different(name):
    given = {"groups": ["g", "g", "g", "h"], "turn_rewards": [[0.0, 1.0], [0.5, -1.0], [1.0, 0.0], [9.0, 9.0]]}
    keys = [["s", "f"]] * 4
    together = estimate(name, maze(**given, outcomes=[0.0] * 4, state_keys=keys))
    apart = estimate(name, maze(**given, outcomes=[0.0] * 4, state_keys=[*keys[:3], ["elsewhere", "other"]]))
    np.testing.assert_array_equal(together.values, apart.values)
    assert together.values[:3].any()


def test_gigpo_counts_each_visit_of_a_trajectory_that_comes_back():
    given = maze(outcomes=[0.0] * 3)
    found = estimate("gigpo", given, gamma=1.0).values - estimate("gigpo", given, gamma=1.0, omega=0.0).values
    fork = np.asarray([1.0, 1.0, 1.5, 1.5])  # returns from f on: of trajectories 0, 1, and twice of 2
    np.testing.assert_allclose([found[0, 1], found[1, 1], found[2, 1], found[2, 2]], fork - fork.mean())
    assert found[1, 2] == found[2, 3] == 0.0  # a state visited once, a turn without a key


def test_gigpo_without_keys_is_the_comparison_of_trajectories():
    found = estimate("gigpo", maze(state_keys=()))
    np.testing.assert_allclose(found.values, estimate("dr_grpo", maze()).values, atol=1e-12)


def test_gigpo_of_cross_steps_leaves_a_lone_trajectory_out_too():
    batch = maze(groups=["g", "g", "h"])
    for cross_steps in (False, True):
        assert estimate("gigpo", batch, cross_steps=cross_steps).mask[:, 0].tolist() == [True, True, False]


def test_a_masked_turn_of_gigpo_hides_its_trajectory_but_its_later_returns_are_compared():
    batch = maze(masked_turns=[(1, 0)], outcomes=[0.0] * 3)
    found = estimate("gigpo", batch, gamma=1.0)
    assert not found.mask[1].any()
    of_states = found.values - estimate("gigpo", batch, gamma=1.0, omega=0.0).values
    # trajectory 1's return from the fork on is known, that from its first turn on is not
    np.testing.assert_allclose(of_states[0], [1.0 - (1.0 + 1.5) / 2, 1.0 - 1.25, 0.0, 0.0])


@pytest.mark.parametrize("norm", NORMS["vpr"])
def test_vpr_does_not_train_on_states_that_teach_nothing(norm):
    batch = maze(turn_rewards=[[1.0, 1.0], [1.0, 0.0, 2.0], [1.0, 0.0, 0.0, 1.0]], outcomes=[0.0] * 3)
    found = estimate("vpr", batch, norm=norm)
    # s: all equal; x: visited once; the last turn of trajectory 2: no key
    assert found.mask.tolist() == [[False, True, False, False], [False, True, False, False], [False, True, True, False]]
    assert not found.values[~found.mask].any()
    assert found.values.sum() == pytest.approx(0.0)


@pytest.mark.parametrize("norm", NORMS["vpr"])
def test_a_masked_reward_of_vpr_is_in_no_statistic(norm):
    masked = estimate("vpr", maze(masked_turns=[(1, 0)]), norm=norm)
    absent = estimate("vpr", maze(state_keys=[["s", "f"], [None, "f", "x"], ["s", "f", "f", None]]), norm=norm)
    assert not masked.mask[1, 0]
    np.testing.assert_array_equal(masked.values, absent.values)


@by_state
def test_an_empty_batch_of_states_breaks_nothing(name):
    for norm in NORMS[name]:
        found = estimate(name, maze(state_keys=[[None] * 2, [None] * 3, [None] * 4]), norm=norm)
        assert np.isfinite(found.values).all()
