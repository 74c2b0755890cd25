"""Properties that every registered estimator must have (algorithms.md 0.7), and what masked scores do."""

import dataclasses

import numpy as np
import pytest
from credit_pieces import rewards, score
from estimator_cases import (
    CASES,
    SUMS_TO_ZERO,
    Member,
    batches,
    build,
    compares_groups,
    credit_config,
    estimate,
    every,
    groups_of,
    has_option,
    masked,
    quick,
    takes_process,
    turn_rewards_of,
)
from hypothesis import given
from hypothesis import strategies as st

from turnwise.config.plugins import build_plugin
from turnwise.credit.assign import assign

constants = st.integers(-8, 8).map(lambda number: number / 4)


def spelled(result):
    tokens = None if result.tokens is None else [[list(turn) for turn in row] for row in result.tokens]
    return [list(row) for row in result.values], [list(row) for row in result.mask], tokens


def on_actions(batch):
    """Return advantages and loss mask of the action tokens, in order."""
    is_action = batch.turn_ids >= 0
    return batch.advantages[is_action], batch.loss_mask[is_action]


def without_rewards(members, outcome=None):
    """Return the members with all turn scores 0, and the same outcome if one is given."""
    return [
        dataclasses.replace(
            member,
            rewards=[0.0] * len(member.rewards),
            process=[0.0] * len(member.rewards),
            values=[0.0] * len(member.rewards),
            outcome=member.outcome if outcome is None else outcome,
        )
        for member in members
    ]


def moved(members, source, constant):
    """Return the members with a constant added to every score of one kind."""
    if source == "outcome":
        return [dataclasses.replace(member, outcome=member.outcome + constant) for member in members]
    return [dataclasses.replace(m, **{source: [x + constant for x in getattr(m, source)]}) for m in members]


@every("permutation")
@quick
@given(data=batches(), seed=st.integers(0, 99))
def test_permuting_trajectories_permutes_the_output_only(label, data, seed):
    order = np.random.default_rng(seed).permutation(len(data))
    plain, shuffled = estimate(label, data), estimate(label, [data[i] for i in order])
    np.testing.assert_allclose(shuffled.values, plain.values[order], atol=1e-8)
    assert (shuffled.mask == plain.mask[order]).all()


@every("padding")
@quick
@given(data=batches())
def test_padding_turns_changes_nothing(label, data):
    plain = estimate(label, data)
    width = plain.values.shape[1]
    wide = estimate(label, data, width=width + 3)
    np.testing.assert_allclose(wide.values[:, :width], plain.values, atol=1e-12)
    assert not wide.mask[:, width:].any()
    assert not wide.values[:, width:].any()


@every("layout")
@quick
@given(data=batches(max_turns=6), seed=st.integers(0, 99))
def test_neither_observation_tokens_nor_contexts_that_start_anew_change_any_advantage(label, data, seed):
    estimator, options = build(label)
    config, rng = credit_config(estimator, options), np.random.default_rng(seed)
    turns = [(i, k) for i, member in enumerate(data) for k in range(1, len(member.rewards))]
    plain, _ = assign(groups_of(estimator, data), config)
    longer, _ = assign(groups_of(estimator, data, observed=7), config)
    rows, _ = assign(groups_of(estimator, data, anew=turns), config)
    mixed, _ = assign(groups_of(estimator, data, anew=[place for place in turns if rng.random() < 0.5]), config)
    assert rows.num_rows == sum(len(member.rewards) for member in data)
    for other in (longer, rows, mixed):
        for found, wanted in zip(on_actions(other), on_actions(plain), strict=True):
            np.testing.assert_array_equal(found, wanted)


@every("layout")
@quick
@given(data=batches(max_turns=6))
def test_the_batch_holds_what_the_estimator_said(label, data):
    estimator, options = build(label)
    data = sorted(data, key=lambda member: member.group)
    found = estimator.estimate(turn_rewards_of(estimator, data))
    advantages, mask = on_actions(assign(groups_of(estimator, data), credit_config(estimator, options))[0])
    places = [(i, k, t) for i, member in enumerate(data) for k, n in enumerate(member.tokens) for t in range(n)]
    values = [found.values[i, k] if found.tokens is None else found.tokens[i][k][t] for i, k, t in places]
    assert mask.tolist() == [bool(found.mask[i, k]) for i, k, _ in places]
    np.testing.assert_allclose(advantages, np.where(mask, values, 0.0), atol=1e-5)


@every("dirt")
@quick
@given(data=batches())
def test_what_lies_under_the_mask_is_never_read(label, data):
    data[0] = masked(data[0], ("*", 0))
    data[1] = masked(data[1], ("x", None), ("process", 0))
    estimator, _ = build(label)
    clean = estimator.estimate(turn_rewards_of(estimator, data))
    dirty = estimator.estimate(turn_rewards_of(estimator, data, hidden=np.nan))
    assert spelled(dirty) == spelled(clean)
    assert np.isfinite(clean.values).all()


@every("groups apart")
@quick
@given(data=batches(), other=batches())
def test_groups_do_not_touch_each_other(label, data, other):
    alone = estimate(label, data, width=12)
    strangers = [dataclasses.replace(member, group=f"o{member.group}") for member in other]
    together = estimate(label, [*data, *strangers], width=12)
    np.testing.assert_allclose(together.values[: len(data)], alone.values, atol=1e-9)


@every("constant outcomes")
@quick
@given(data=batches(), constant=constants)
def test_a_constant_on_all_outcomes_of_a_group_changes_nothing(label, data, constant):
    plain, found = estimate(label, data), estimate(label, moved(data, "outcome", constant))
    np.testing.assert_allclose(found.values, plain.values, atol=1e-6)


@every("constant turn rewards")
@quick
@given(data=batches(equal_turns=True), constant=constants)
def test_a_constant_on_all_turn_rewards_changes_nothing_at_equal_turn_counts(label, data, constant):
    plain, found = estimate(label, data), estimate(label, moved(data, "rewards", constant))
    np.testing.assert_allclose(found.values, plain.values, atol=1e-6)


@every("constant process scores", takes_process)
@quick
@given(data=batches(equal_turns=True), constant=constants)
def test_a_constant_on_all_process_scores_changes_nothing_at_equal_turn_counts(label, data, constant):
    plain, found = estimate(label, data), estimate(label, moved(data, "process", constant))
    np.testing.assert_allclose(found.values, plain.values, atol=1e-6)


@every("equal outcomes")
@quick
@given(data=batches(), value=constants)
def test_equal_outcomes_give_zero_whatever_the_turn_counts(label, data, value):
    found = estimate(label, without_rewards(data, value))
    np.testing.assert_allclose(found.values, 0.0, atol=1e-8)


@every("equal rewards")
@quick
@given(data=batches(equal_turns=True), value=constants)
def test_equal_rewards_everywhere_give_zero_at_equal_turn_counts(label, data, value):
    equal = moved(moved(without_rewards(data, value), "rewards", value), "process", value)
    found = estimate(label, equal)
    np.testing.assert_allclose(found.values, 0.0, atol=1e-8)


@every("never nan")
@quick
@given(data=batches(), value=constants)
def test_equal_rewards_never_give_nan(label, data, value):
    equal = without_rewards(data, value)
    for members in (equal, moved(moved(equal, "rewards", value), "process", value)):
        found = estimate(label, members)
        assert np.isfinite(found.values).all()
        assert not found.values[~found.mask].any()


@pytest.mark.parametrize(("label", "over"), [item for item in SUMS_TO_ZERO.items() if item[0] in CASES])
@quick
@given(data=batches(equal_turns=True))
def test_advantages_of_a_group_sum_to_zero_at_equal_turn_counts(label, over, data):
    names, found = np.asarray([member.group for member in data]), estimate(label, data)
    for name in set(names):
        sums = found.values[names == name].sum(axis=0)
        np.testing.assert_allclose(sums if over == "turn" else sums.sum(), 0.0, atol=1e-9)


@every("masked turns")
@quick
@given(data=batches(), seed=st.integers(0, 99))
def test_a_masked_turn_gets_exactly_zero_and_no_gradient(label, data, seed):
    rng = np.random.default_rng(seed)
    estimator, options = build(label)
    channel = rng.choice(list(turn_rewards_of(estimator, data).weights))
    hidden = [(i, k) for i, member in enumerate(data) for k in range(len(member.rewards)) if rng.random() < 0.2]
    for i, k in hidden:
        data[i] = masked(data[i], (channel, k))
    found = estimator.estimate(turn_rewards_of(estimator, data))
    assert not any(found.mask[place] for place in hidden)
    assert np.isfinite(found.values).all()
    assert not found.values[~found.mask].any()
    advantages, mask = on_actions(assign(groups_of(estimator, data), credit_config(estimator, options))[0])
    assert not advantages[~mask].any()


@every("absent")
@quick
@given(data=batches(max_turns=6))
def test_a_trajectory_whose_scorers_failed_is_as_if_it_were_not_there(label, data):
    estimator, options = build(label)
    config, groups = credit_config(estimator, options), groups_of(estimator, data)
    lost = groups[0].trajectories[0]
    failed = [score(lost.trajectory_id, None, channel=channel) for channel in config.channels]
    others = [s for s in groups[0].scores if s.trajectory_id != lost.trajectory_id]
    masked_out = dataclasses.replace(groups[0], scores=(*others, *failed))
    left_out = dataclasses.replace(groups[0], trajectories=groups[0].trajectories[1:], scores=tuple(others))
    first = sum(data[0].tokens)
    advantages, mask = on_actions(assign([masked_out, *groups[1:]], config)[0])
    assert not mask[:first].any()
    assert not advantages[:first].any()
    absent, absent_mask = on_actions(assign([left_out, *groups[1:]], config)[0])
    np.testing.assert_allclose(advantages[first:], absent, atol=1e-5)
    assert (mask[first:] == absent_mask).all()


def lonely():
    """Return one trajectory alone in its group, and a pair."""
    return [
        Member.of("a", [0.0, 1.0], 1.0, states=["p", "q"], beliefs=["p", "q"]),
        Member.of("b", [0.0], 1.0),
        Member.of("b", [0.0], 0.0),
    ]


@every("alone", compares_groups)
def test_a_lone_trajectory_is_left_out(label):
    found = estimate(label, lonely())
    assert not found.mask[0].any()
    assert not found.values[0].any()


@every("raw", has_option("singleton"))
def test_a_lone_trajectory_has_its_raw_score_where_that_is_asked_for(label):
    found = estimate(label, lonely(), singleton="raw")
    assert found.mask[0].all()
    np.testing.assert_allclose(found.values[0], 2.0, atol=1e-3)


@every("no turns")
def test_a_trajectory_without_turns_breaks_nothing(label):
    found = estimate(label, [Member.of("a", [], 0.0), Member.of("a", [0.0], 1.0), Member.of("a", [0.0, 0.0], 2.0)])
    assert not found.mask[0].any()
    assert np.isfinite(found.values).all()


def in_two_channels(members, weights, *, masked_outcome=None):
    """Return rewards whose outcomes stand on the channels "x" and "y", twice in all on the latter."""
    estimator, _ = build("turn_loo")
    one = turn_rewards_of(estimator, members)
    known = np.arange(len(members)) != masked_outcome
    return dataclasses.replace(
        one,
        turn={**one.turn, "y": 2.0 * one.turn["x"]},
        turn_mask={**one.turn_mask, "y": one.turn_mask["x"]},
        outcome={**one.outcome, "y": 3.0 - one.outcome["x"]},
        outcome_mask={**one.outcome_mask, "y": known},
        weights=weights,
    )


def estimate_with(label, members, extra):
    """Return what an estimator makes of the members when the channels of `extra` replace "x"."""
    estimator, _ = build(label)
    own = turn_rewards_of(estimator, members)
    both = {
        name: {**getattr(own, name), **getattr(extra, name)}
        for name in ("turn", "turn_mask", "outcome", "outcome_mask")
    }
    return estimator.estimate(dataclasses.replace(own, **both, weights={**own.weights, **extra.weights}))


@every("weighted channels")
@quick
@given(data=batches())
def test_channels_are_weighted(label, data):
    found = estimate_with(label, data, in_two_channels(data, {"x": 1.0, "y": 0.5}))
    # x + (3 - x) / 2 of the outcomes, and twice the turn rewards
    merged = [dataclasses.replace(m, rewards=[2 * x for x in m.rewards], outcome=0.5 * m.outcome + 1.5) for m in data]
    np.testing.assert_allclose(found.values, estimate(label, merged).values, atol=1e-9)


@every("weight zero")
@quick
@given(data=batches())
def test_a_channel_of_weight_zero_has_no_part_even_where_it_is_masked(label, data):
    found = estimate_with(label, data, in_two_channels(data, {"x": 1.0, "y": 0.0}, masked_outcome=0))
    assert spelled(found) == spelled(estimate(label, data))


def plain_estimate(name, batch, **options):
    found, config = build_plugin("estimator", {"name": name, **options})
    return found(config).estimate(batch)


def test_a_masked_turn_reward_hides_its_own_and_earlier_returns_but_not_later_ones():
    batch = rewards(["a"] * 3, [[1.0, 2.0, 4.0]] * 3, [0.0, 1.0, 2.0], masked_turns=[(0, 1)])
    found = plain_estimate("turn_loo", batch)
    assert found.mask.tolist() == [[False, False, True], [True] * 3, [True] * 3]
    assert found.values[0].tolist() == [0.0, 0.0, -1.5]
    # at turns 0 and 1 the two others have each other alone; at turn 2 all three are known
    assert found.values[1].tolist() == [-1.0, -1.0, 0.0]
    assert found.values[2].tolist() == [1.0, 1.0, 1.5]


def test_an_ended_trajectory_goes_on_with_the_return_of_its_last_turn():
    batch = rewards(["a", "a", "a"], [[0.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]], [3.0, 1.0, 1.0])
    found = plain_estimate("turn_loo", batch)
    assert found.values[1].tolist() == [1.0 - 2.25, 1.0 - 2.25, 1.0 - 2.0]


def test_discounting_is_by_turn():
    batch = rewards(["a", "a"], [[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
    assert plain_estimate("turn_loo", batch, gamma=0.5).values.tolist() == [[0.5, 1.0], [-0.5, -1.0]]


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


def test_a_channel_masked_for_one_trajectory_leaves_the_other_channels_baselines_whole():
    found = plain_estimate("turn_loo", two_channels({"x": 1.0, "y": 1.0}, masked=[0]))
    assert found.mask[:, 0].tolist() == [False, True, True]
    assert found.values[1, 0] == pytest.approx((0.0 - 0.75) + (5.0 - 1.0))
    assert found.values[2, 0] == pytest.approx((0.5 - 0.5) + (1.0 - 5.0))
