"""Properties that every registered estimator must have (algorithms.md 0.7), and what masked scores do."""

import dataclasses

import numpy as np
import pytest
from credit_pieces import rewards
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise import registry
from turnwise.config.plugins import build_plugin

ESTIMATORS = registry.names("estimator")
LEAVE_ONE_OUT = ("rloo", "turn_loo")
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
GIVEN_VALUES = ("bi_level_gae", "token_gae", "turn_gae")
"""They subtract a value that a scorer gave, so that neither constants nor equal outcomes cancel."""
TURN_BY_TURN = ("vpr", "vpr_turn_index")
"""They compare turns' own rewards: of a trajectory with a masked outcome only the last turn is unknown."""
BATCH_WIDE = ("reinforce_pp", "reinforce_pp_baseline", *TURN_BY_TURN, *GIVEN_VALUES)
"""They normalise over the batch, so that its groups touch each other."""
quick = settings(max_examples=40, deadline=None, derandomize=True)


def without(*names):
    """Every estimator but these, which the property is not claimed of."""
    assert set(names) <= set(ESTIMATORS)
    return pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in names])


values = st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def batches(draw, *, min_group=2, equal_turns=False):
    """Arguments of `rewards`: 1 to 3 groups of 2 to 4 trajectories with 1 to 4 turns."""
    groups, turns = [], []
    for name in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 4))
        for _ in range(draw(st.integers(min_group, 4))):
            size = length if equal_turns else draw(st.integers(1, 4))
            groups.append(f"g{name}")
            turns.append(draw(st.lists(values, min_size=size, max_size=size)))
    outcomes = draw(st.lists(values, min_size=len(groups), max_size=len(groups)))
    return groups, turns, outcomes


def estimate(name, batch, **options):
    found, config = build_plugin("estimator", {"name": name, **options})
    return found(config).estimate(with_values(batch) if hasattr(found, "value_options") else batch)


def with_values(batch):
    """Rewards with a value a turn on the channel "value", which is no reward."""
    guess = np.where(batch.turn_exists, 0.1 + 0.3 * np.arange(batch.turn_exists.shape[1]), 0.0)
    rows = len(batch.group)
    return dataclasses.replace(
        batch,
        turn={**batch.turn, "value": guess},
        turn_mask={**batch.turn_mask, "value": batch.turn_exists},
        outcome={**batch.outcome, "value": np.zeros(rows)},
        outcome_mask={**batch.outcome_mask, "value": np.ones(rows, dtype=bool)},
        weights={**batch.weights, "value": 0.0},
    )


def spelled(result):
    return [list(row) for row in result.values], [list(row) for row in result.mask]


@every_estimator
@quick
@given(data=batches(), seed=st.integers(0, 99))
def test_permuting_trajectories_permutes_the_output_only(name, data, seed):
    groups, turns, outcomes = data
    order = np.random.default_rng(seed).permutation(len(groups))
    plain = estimate(name, rewards(groups, turns, outcomes))
    shuffled = estimate(
        name, rewards([groups[i] for i in order], [turns[i] for i in order], [outcomes[i] for i in order])
    )
    np.testing.assert_allclose(shuffled.values, plain.values[order], atol=1e-8)
    assert (shuffled.mask == plain.mask[order]).all()


@every_estimator
@quick
@given(data=batches())
def test_padding_turns_and_counting_observation_tokens_changes_nothing(name, data):
    plain = estimate(name, rewards(*data))
    wide = estimate(name, rewards(*data, width=plain.values.shape[1] + 3))
    np.testing.assert_array_equal(wide.values[:, : plain.values.shape[1]], plain.values)
    assert not wide.mask[:, plain.values.shape[1] :].any()
    assert not wide.values[:, plain.values.shape[1] :].any()


@every_estimator
@quick
@given(data=batches())
def test_what_lies_under_the_mask_is_never_read(name, data):
    batch = rewards(*data, masked_turns=[(0, 0)], masked_outcomes=[1])
    dirty = dataclasses.replace(
        batch,
        turn={"x": np.where(batch.turn_mask["x"], batch.turn["x"], np.nan)},
        outcome={"x": np.where(batch.outcome_mask["x"], batch.outcome["x"], np.nan)},
    )
    assert spelled(estimate(name, dirty)) == spelled(estimate(name, batch))


@without(*BATCH_WIDE)
@quick
@given(data=batches(), other=batches())
def test_groups_do_not_touch_each_other(name, data, other):
    groups, turns, outcomes = data
    alone = estimate(name, rewards(groups, turns, outcomes, width=4))
    together = estimate(
        name, rewards([*groups, *(f"o{g}" for g in other[0])], [*turns, *other[1]], [*outcomes, *other[2]], width=4)
    )
    np.testing.assert_allclose(together.values[: len(groups)], alone.values, atol=1e-9)


@without("vpr_turn_index", *GIVEN_VALUES)
@quick
@given(data=batches(), constant=values)
def test_a_constant_on_all_outcomes_of_a_group_changes_nothing(name, data, constant):
    groups, turns, outcomes = data
    outcomes = [round(x) for x in outcomes]  # GRPO's tiny standard deviations would blow rounding up
    turns = [[round(x) for x in row] for row in turns]
    plain = estimate(name, rewards(groups, turns, outcomes))
    moved = estimate(name, rewards(groups, turns, [x + round(constant) for x in outcomes]))
    np.testing.assert_allclose(moved.values, plain.values, atol=1e-6)


@without("reinforce_pp", *GIVEN_VALUES)
@quick
@given(data=batches(equal_turns=True), constant=values)
def test_a_constant_on_all_turn_rewards_changes_nothing_at_equal_turn_counts(name, data, constant):
    groups, turns, outcomes = data
    turns, outcomes = [[round(x) for x in row] for row in turns], [round(x) for x in outcomes]
    plain = estimate(name, rewards(groups, turns, outcomes))
    moved = estimate(name, rewards(groups, [[x + round(constant) for x in row] for row in turns], outcomes))
    np.testing.assert_allclose(moved.values, plain.values, atol=1e-6)


@without("vpr_turn_index", *GIVEN_VALUES)
@quick
@given(data=batches(), value=values)
def test_equal_outcomes_give_zero_and_never_nan_whatever_the_turn_counts(name, data, value):
    groups, turns, _ = data
    found = estimate(name, rewards(groups, [[0.0] * len(row) for row in turns], [value] * len(groups)))
    np.testing.assert_allclose(found.values, 0.0, atol=1e-8)
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("name", LEAVE_ONE_OUT)
@quick
@given(data=batches(equal_turns=True))
def test_leave_one_out_advantages_of_a_group_sum_to_zero_by_turn(name, data):
    groups = np.asarray(data[0])
    found = estimate(name, rewards(*data))
    for group in set(data[0]):
        np.testing.assert_allclose(found.values[groups == group].sum(axis=0), 0.0, atol=1e-9)


@without(*TURN_BY_TURN)
@quick
@given(data=batches())
def test_a_trajectory_with_a_masked_outcome_is_as_if_it_were_not_there(name, data):
    groups, turns, outcomes = data
    masked = estimate(name, rewards(groups, turns, outcomes, masked_outcomes=[0], width=4))
    absent = estimate(name, rewards(groups[1:], turns[1:], outcomes[1:], width=4))
    assert not masked.mask[0].any()
    assert not masked.values[0].any()
    np.testing.assert_allclose(masked.values[1:], absent.values, atol=1e-9)
    assert (masked.mask[1:] == absent.mask).all()


@without(*BATCH_WIDE)
def test_a_lone_trajectory_is_left_out_unless_raw_is_asked_for(name):
    batch = rewards(["a", "b", "b"], [[0.0, 1.0], [0.0], [0.0]], [1.0, 1.0, 0.0])
    left_out = estimate(name, batch)
    assert not left_out.mask[0].any()
    assert not left_out.values[0].any()
    raw = estimate(name, batch, singleton="raw")
    np.testing.assert_allclose(raw.values[0], 2.0, atol=1e-5)
    assert raw.mask[0].all()


@every_estimator
def test_a_trajectory_without_turns_breaks_nothing(name):
    found = estimate(name, rewards(["a", "a", "a"], [[], [0.0], [0.0, 0.0]], [0.0, 1.0, 2.0]))
    assert not found.mask[0].any()
    assert np.isfinite(found.values).all()


def test_a_masked_turn_reward_hides_its_own_and_earlier_returns_but_not_later_ones():
    batch = rewards(["a"] * 3, [[1.0, 2.0, 4.0]] * 3, [0.0, 1.0, 2.0], masked_turns=[(0, 1)])
    found = estimate("turn_loo", batch)
    assert found.mask.tolist() == [[False, False, True], [True] * 3, [True] * 3]
    assert found.values[0].tolist() == [0.0, 0.0, -1.5]
    # at turns 0 and 1 the two others have each other alone; at turn 2 all three are known
    assert found.values[1].tolist() == [-1.0, -1.0, 0.0]
    assert found.values[2].tolist() == [1.0, 1.0, 1.5]


def test_an_ended_trajectory_goes_on_with_the_return_of_its_last_turn():
    batch = rewards(["a", "a", "a"], [[0.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]], [3.0, 1.0, 1.0])
    found = estimate("turn_loo", batch)
    assert found.values[1].tolist() == [1.0 - 2.25, 1.0 - 2.25, 1.0 - 2.0]


def test_discounting_is_by_turn():
    batch = rewards(["a", "a"], [[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
    assert estimate("turn_loo", batch, gamma=0.5).values.tolist() == [[0.5, 1.0], [-0.5, -1.0]]


def two_channels(weights, masked=()):
    one = rewards(["a"] * 3, [[0.0], [0.0], [0.0]], [1.0, 0.0, 0.5])
    two = rewards(["a"] * 3, [[0.0], [0.0], [0.0]], [3.0, 5.0, 1.0], masked_outcomes=masked)
    return dataclasses.replace(
        one,
        turn={"x": one.turn["x"], "y": two.turn["x"]},
        turn_mask={"x": one.turn_mask["x"], "y": two.turn_mask["x"]},
        outcome={"x": one.outcome["x"], "y": two.outcome["x"]},
        outcome_mask={"x": one.outcome_mask["x"], "y": two.outcome_mask["x"]},
        weights=weights,
    )


@every_estimator
def test_channels_are_weighted(name):
    merged = rewards(["a"] * 3, [[0.0], [0.0], [0.0]], [1.0 + 6.0, 0.0 + 10.0, 0.5 + 2.0])
    np.testing.assert_allclose(
        estimate(name, two_channels({"x": 1.0, "y": 2.0})).values, estimate(name, merged).values, atol=1e-9
    )


@every_estimator
def test_a_channel_of_weight_zero_has_no_part_even_where_it_is_masked(name):
    only = rewards(["a"] * 3, [[0.0], [0.0], [0.0]], [1.0, 0.0, 0.5])
    found = estimate(name, two_channels({"x": 1.0, "y": 0.0}, masked=[0]))
    assert spelled(found) == spelled(estimate(name, only))


def test_a_channel_masked_for_one_trajectory_leaves_the_other_channels_baselines_whole():
    found = estimate("turn_loo", two_channels({"x": 1.0, "y": 1.0}, masked=[0]))
    assert found.mask[:, 0].tolist() == [False, True, True]
    assert found.values[1, 0] == pytest.approx((0.0 - 0.75) + (5.0 - 1.0))
    assert found.values[2, 0] == pytest.approx((0.5 - 0.5) + (1.0 - 5.0))
