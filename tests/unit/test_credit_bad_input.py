"""What no estimator can use is refused with its place, or left out: it is never trained on, and never NaN."""

import dataclasses
import math

import numpy as np
import pytest
from credit_pieces import TASK, group, score, trajectory, turn
from estimator_cases import Member, build, channels_of, credit_config, every, groups_of, masked

from turnwise.config import load_config
from turnwise.config.schema import CreditConfig
from turnwise.credit import TurnAdvantages
from turnwise.credit.assign import assign
from turnwise.credit.spread import to_tokens
from turnwise.errors import JudgeError, NumericsError, UserError
from turnwise.records import Group


def members(*, groups="aaaaaabbbbbb"):
    """Return trajectories with one to three turns, large enough a group for every estimator."""
    found = []
    for i, name in enumerate(groups):
        size = i % 3 + 1
        found.append(
            Member.of(
                name,
                [0.5 * ((i + k) % 3) for k in range(size)],
                float(i % 2),
                process=[float((i + k) % 2) for k in range(size)],
                values=[0.25] * size,
                states=["pqr"[k] for k in range(size)],
                beliefs=["pqr"[k] for k in range(size)],
            )
        )
    return found


def run(label, given, change=lambda groups: groups):
    """Return the batch and metrics that `assign` makes of the members under the estimator of a case."""
    estimator, options = build(label)
    return assign(change(groups_of(estimator, given)), credit_config(estimator, options))


def with_score(groups, channel, turn_index, value):
    """Return the groups with one score of the first trajectory replaced."""
    where = groups[0].trajectories[0].trajectory_id
    kept = [s for s in groups[0].scores if (s.trajectory_id, s.channel, s.turn) != (where, channel, turn_index)]
    changed = dataclasses.replace(groups[0], scores=(*kept, score(where, value, turn=turn_index, channel=channel)))
    return [changed, *groups[1:]]


@every("bad input")
def test_good_input_is_trained_on_and_finite(label):
    batch, metrics = run(label, members())
    assert batch.num_loss_tokens > 0
    assert np.abs(batch.advantages).max() > 0.0
    assert np.isfinite(batch.advantages).all()
    assert all(math.isfinite(value) for value in metrics.values())


@every("bad input")
def test_a_group_of_one_gives_no_nan(label):
    batch, metrics = run(label, members(groups="abbbbbb"))
    assert np.isfinite(batch.advantages).all()
    assert all(math.isfinite(value) for value in metrics.values())


@every("bad input")
def test_a_group_of_which_everything_is_masked_is_not_trained_on_and_the_other_is_as_ever(label):
    estimator, _ = build(label)
    hidden = [("x", None), *((name, k) for name, _, _ in channels_of(estimator) for k in range(3))]
    given = members()
    batch, metrics = run(label, [masked(m, *hidden) if m.group == "a" else m for m in given])
    in_a = np.repeat(batch.row_trajectories < 6, np.diff(batch.row_offsets))
    assert not batch.loss_mask[in_a].any()
    assert not batch.advantages[in_a].any()
    alone, _ = run(label, given[6:])
    np.testing.assert_allclose(batch.advantages[~in_a], alone.advantages, atol=1e-6)
    assert all(math.isfinite(value) for value in metrics.values())


@every("bad input")
def test_when_everything_is_masked_nothing_is_trained_on(label):
    estimator, _ = build(label)
    hidden = [("x", None), *((name, k) for name, _, _ in channels_of(estimator) for k in range(3))]
    batch, metrics = run(label, [masked(m, *hidden) for m in members()])
    assert batch.num_loss_tokens == 0
    assert not batch.advantages.any()
    assert all(math.isfinite(value) for value in metrics.values())


@every("bad input")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused_with_trajectory_and_turn(label, value):
    for turn_index, place in ((0, "turn 0"), (None, "whole trajectory")):
        with pytest.raises(JudgeError, match=rf"channel 'x', trajectory a/0, {place}: the value is -?(nan|inf)"):
            run(label, members(), lambda groups, k=turn_index: with_score(groups, "x", k, value))


@every("bad input")
def test_a_turn_without_tokens_changes_no_other_turns_training(label):
    given = members()
    given[2] = dataclasses.replace(given[2], tokens=[2, 0, 2])
    given[4] = dataclasses.replace(given[4], tokens=[2, 0])
    given[3] = dataclasses.replace(given[3], tokens=[0])
    batch, metrics = run(label, given)
    assert np.isfinite(batch.advantages).all()
    assert all(math.isfinite(value) for value in metrics.values())
    is_action = batch.turn_ids >= 0
    assert is_action.sum() == sum(sum(member.tokens) for member in given)
    assert batch.loss_mask[is_action].any()


@every("bad input")
def test_a_batch_without_any_token_gives_an_empty_loss(label):
    batch, metrics = run(label, [dataclasses.replace(m, tokens=[0] * len(m.tokens)) for m in members()])
    assert batch.num_loss_tokens == 0
    assert all(math.isfinite(value) for value in metrics.values())


def scored(*members_of_group, name="a"):
    scores = tuple(score(member.trajectory_id, float(i)) for i, member in enumerate(members_of_group))
    return Group(group_id=name, task=TASK, trajectories=members_of_group, scores=scores)


@pytest.mark.parametrize("name", ["action_ids", "logprobs", "versions"])
def test_arrays_of_a_turn_that_differ_in_length_are_refused_with_their_place(name):
    broken = dataclasses.replace(turn(2), **{name: np.zeros(3, dtype=np.int32)})
    both = scored(trajectory("a", 0, [1]), trajectory("a", 1, [turn(1), broken]))
    with pytest.raises(ValueError, match="trajectory a/1 turn 1: action ids, log-probabilities and versions"):
        assign([both], CreditConfig())


def test_a_log_probability_that_is_not_finite_is_refused_with_its_place_if_it_is_trained_on():
    broken = dataclasses.replace(turn(2), logprobs=np.asarray([-0.5, np.nan], dtype=np.float32))
    both = scored(trajectory("a", 0, [1]), trajectory("a", 1, [turn(1), broken]))
    with pytest.raises(NumericsError, match=r"trajectory a/1 turn 1: the sampler gave a log-probability"):
        assign([both], CreditConfig())
    masked_outcome = dataclasses.replace(both, scores=(score("a/0", 0.0), score("a/1", None)))
    assert assign([masked_outcome], CreditConfig())[0].num_loss_tokens == 0


def test_a_trajectory_that_is_given_twice_is_refused():
    one, other = trajectory("a", 0, [1]), trajectory("a", 1, [1])
    with pytest.raises(ValueError, match="trajectory a/0 is in the batch 2 times"):
        assign([dataclasses.replace(scored(one, other), trajectories=(one, other, one))], CreditConfig())
    with pytest.raises(ValueError, match="trajectory a/0 is in the batch 2 times"):
        assign([scored(one, other), scored(one, other)], CreditConfig())


def test_an_estimator_whose_advantages_do_not_fit_the_tokens_or_are_not_finite_is_refused_with_the_place():
    rows = [trajectory("a", 0, [2]), trajectory("a", 1, [1, 2])]
    values, mask = np.zeros((2, 2)), np.asarray([[True, False], [True, True]])
    wrong = [[np.zeros(2)], [np.zeros(1), np.zeros(1)]]
    with pytest.raises(ValueError, match=r"trajectory a/1 turn 1: .* 1 advantages to 2 action tokens"):
        to_tokens(TurnAdvantages(values=values, mask=mask, tokens=wrong), rows)
    values[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"trajectory a/1 turn 0: .* not finite"):
        to_tokens(TurnAdvantages(values=values, mask=mask), rows)


def test_scores_that_overflow_when_summed_are_refused_and_not_trained_on():
    huge = [score("a/0", 1.5e308, source="one"), score("a/0", 1.5e308, source="two"), score("a/1", 0.0)]
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"trajectory a/. turn 0: .* not finite"):
        assign([group("a", [[1], [1]], huge)], CreditConfig())


def test_an_advantage_that_only_float64_can_hold_is_refused_with_its_place():
    values, mask = np.asarray([[1e300]]), np.ones((1, 1), dtype=bool)
    with pytest.raises(ValueError, match=r"trajectory a/0 turn 0: .* too large for float32"):
        to_tokens(TurnAdvantages(values=values, mask=mask), [trajectory("a", 0, [1])])


def test_prime_gives_the_score_of_a_turn_without_tokens_to_the_token_before_it():
    def advantages(process, tokens):
        given = [Member.of("a", [0.0] * len(row), 0.0, process=row) for row in (process, [0.0])]
        given[0] = dataclasses.replace(given[0], tokens=tokens)
        estimator, options = build("prime without whitening")
        return assign(groups_of(estimator, given), credit_config(estimator, options))[0].advantages

    apart, together = advantages([0.25, 0.5], [1, 0]), advantages([0.75], [1])
    assert together.max() > 0.0
    np.testing.assert_allclose(apart[apart != 0.0], together[together != 0.0])


def test_an_item_whose_weight_is_gone_still_holds_up_those_that_wait_for_it():
    options = {"name": "cm2_step", "dependence": {"b": ["a"]}, "eta": 1.0, "min_group": 2, "divide": False}
    config = CreditConfig(
        channels={"a": 1.0, "b": 1.0},
        estimator=options,
        fuse=[{"name": "anneal", "channel": "a", "schedule": "linear", "start": 0, "over": 1, "final": 0.0}],
    )
    passed = [score("a/0", 1.0, turn=0, channel="a"), score("a/0", 1.0, turn=1, channel="b")]
    one = group("a", [[1, 1], [1, 1]], [*passed, score("a/1", 1.0, turn=0, channel="a")])
    batch, _ = assign([one], config, update=1)
    turn_1 = batch.advantages[batch.turn_ids == 1]
    np.testing.assert_allclose(turn_1, [0.5, -0.5])  # b could be worked at from turn 1 on, and one of two did it
    assert not batch.advantages[batch.turn_ids == 0].any()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["credit.estimator={name: istar}"], "credit.estimator.process=process: .* needs this channel"),
        (["credit.estimator={name: cm2, min_group: 9}"], "credit.estimator.min_group=9: .* smaller groups"),
        (
            ["credit.estimator={name: cm2_step, dependence: {outcome: [other]}}"],
            "credit.estimator.dependence=other: .* needs this channel",
        ),
        (
            ["credit.estimator={name: cm2_step, dependence: {a: [b], b: [a]}}", "credit.channels={a: 1.0, b: 1.0}"],
            "credit.estimator.dependence.a=.*: the items wait for each other",
        ),
    ],
)
def test_options_that_could_not_work_are_refused_before_a_run(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(None, overrides)


def test_items_of_a_checklist_may_wait_for_others():
    overrides = ["credit.estimator={name: cm2_step, dependence: {b: [a]}}", "credit.channels={a: 1.0, b: 1.0}"]
    assert load_config(None, overrides).config.credit.estimator["dependence"] == {"b": ["a"]}
