"""From scored groups to the learner's batch: what is 0, what is missing, what is an error, and the packing."""

import dataclasses
import math

import numpy as np
import pytest
from credit_pieces import TASK, group, score, trajectory, turn

from turnwise.config.schema import CreditConfig
from turnwise.credit.assign import assign
from turnwise.credit.rewards import turn_rewards
from turnwise.errors import JudgeError, UserError
from turnwise.records import Group


def outcomes(name, *values):
    return [score(f"{name}/{index}", value) for index, value in enumerate(values)]


def two_groups():
    return [
        group("b", [[2], [1, 1]], outcomes("b", 0.0, 1.0)),
        group("a", [[2, 3], [1]], outcomes("a", 1.0, 0.0)),
    ]


def config(estimator="turn_loo", **channels):
    return CreditConfig(channels=channels or {"outcome": 1.0}, estimator={"name": estimator})


def of_channel(scores, *, turns=((2, 2), (2, 2)), channel="x", declared=()):
    groups = [group("a", [list(row) for row in turns], scores)]
    found = turn_rewards(groups, {channel: 1.0}, declared)
    return found.turn[channel], found.turn_mask[channel], found.outcome[channel], found.outcome_mask[channel]


def test_rows_are_sorted_by_group_and_index_and_hold_the_tokens_as_sampled():
    batch, _ = assign(two_groups(), config())
    assert batch.row_offsets.tolist() == [0, 11, 15, 20, 28]
    assert batch.row_trajectories.tolist() == [0, 1, 2, 3]
    assert batch.ids[:11].tolist() == [0, 1, 2, 10, 11, 0, 1, 2, 10, 11, 12]
    assert batch.positions[:11].tolist() == list(range(11))
    assert batch.turn_ids[:11].tolist() == [-1, -1, -1, 0, 0, -1, -1, -1, 1, 1, 1]
    action = batch.turn_ids >= 0
    assert (batch.loss_mask == action).all()
    assert (batch.logprobs == np.where(action, np.float32(-0.5), 0)).all()
    assert (batch.versions == np.where(action, 0, -1)).all()
    assert batch.advantages[action].tolist() == [1.0] * 5 + [-1.0] * 3 + [1.0] * 2
    assert not batch.advantages[~action].any()


def test_the_order_in_which_groups_arrive_changes_no_byte():
    groups = two_groups()
    flipped = [dataclasses.replace(g, trajectories=g.trajectories[::-1], scores=g.scores[::-1]) for g in groups[::-1]]
    one, metrics = assign(groups, config())
    other, other_metrics = assign(flipped, config())
    for name in (field.name for field in dataclasses.fields(one)):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert metrics == other_metrics


def test_a_context_that_starts_anew_starts_a_row_of_the_same_trajectory():
    turns = [turn(2), turn(2), turn(1, starts_context=True), turn(1)]
    members = (trajectory("a", 0, turns), trajectory("a", 1, [1]))
    scored = Group(group_id="a", task=TASK, trajectories=members, scores=tuple(outcomes("a", 1, 0)))
    batch, _ = assign([scored], config())
    assert batch.row_offsets.tolist() == [0, 10, 18, 22]
    assert batch.row_trajectories.tolist() == [0, 0, 1]
    assert batch.positions[10:18].tolist() == list(range(8))
    assert batch.turn_ids[10:18].tolist() == [-1, -1, -1, 2, -1, -1, -1, 3]


def test_a_masked_outcome_takes_its_trajectory_out_of_the_loss_and_the_statistics():
    groups = [group("a", [[2], [2], [2]], [score("a/0", None), score("a/1", 1.0), score("a/2", 0.0)])]
    batch, metrics = assign(groups, config())
    assert batch.loss_mask.tolist() == [False] * 5 + 2 * ([False] * 3 + [True] * 2)
    assert batch.advantages[batch.loss_mask].tolist() == [1.0, 1.0, -1.0, -1.0]
    assert not batch.advantages[:5].any()
    assert (batch.turn_ids[3:5] == 0).all()
    assert metrics["reward/mean"] == 0.5
    assert metrics["credit/masked_share"] == pytest.approx(1 / 3)


def test_a_turn_without_a_score_got_nothing_and_a_masked_one_is_missing():
    turns, known, whole, whole_known = of_channel(
        [score("a/0", 0.5, turn=1, channel="x"), score("a/1", None, turn=0, channel="x")]
    )
    assert turns.tolist() == [[0.0, 0.5], [0.0, 0.0]]
    assert known.tolist() == [[True, True], [False, True]]
    assert whole.tolist() == [0.0, 0.0]
    assert whole_known.tolist() == [True, True]


def test_a_trajectory_that_a_judge_of_wholes_passed_over_is_missing():
    _, _, whole, known = of_channel([score("a/0", 0.5, channel="x")])
    assert whole.tolist() == [0.5, 0.0]
    assert known.tolist() == [True, False]


def test_a_trajectory_with_turn_scores_only_counts_as_judged():
    _, _, _, known = of_channel([score("a/0", 0.5, channel="x"), score("a/1", 0.5, turn=0, channel="x")])
    assert known.tolist() == [True, True]


def test_spans_and_scorers_of_one_channel_add_up_and_one_masked_masks_all():
    turns, known, _, _ = of_channel(
        [
            score("a/0", 0.5, turn=0, channel="x", span=(0, 1)),
            score("a/0", 0.25, turn=0, channel="x", span=(1, 2)),
            score("a/0", 1.0, turn=0, channel="x", source="other"),
            score("a/1", 1.0, turn=1, channel="x"),
            score("a/1", None, turn=1, channel="x", source="other"),
            score("a/1", 2.0, turn=1, channel="x", source="third"),
        ]
    )
    assert turns.tolist() == [[1.75, 0.0], [0.0, 0.0]]
    assert known.tolist() == [[True, True], [True, False]]


def test_a_masked_score_of_a_whole_trajectory_masks_its_turns_without_a_score_of_their_own():
    turns, known, _, whole_known = of_channel(
        [
            score("a/0", None, channel="x"),
            score("a/0", 0.5, turn=1, channel="x", source="other"),
            score("a/1", 1.0, turn=0, channel="x"),
        ]
    )
    assert turns.tolist() == [[0.0, 0.5], [1.0, 0.0]]
    assert known.tolist() == [[False, True], [True, True]]
    assert whole_known.tolist() == [False, True]


def test_a_scorer_that_failed_on_one_group_takes_no_turn_scores_from_the_others():
    failed = [score("a/0", None, channel="x"), score("a/1", 0.5, turn=0, channel="x")]
    rewards = turn_rewards([group("a", [[1], [1]], failed), group("b", [[1], [1]], [])], {"x": 1.0})
    assert rewards.outcome_mask["x"].tolist() == [False, True, True, True]
    assert rewards.turn_mask["x"].tolist() == [[False], [True], [True], [True]]


def test_a_value_for_every_channel_is_refused():
    with pytest.raises(
        JudgeError, match=r"channel '\*', trajectory a/0, whole trajectory: it stands for every channel"
    ):
        of_channel([score("a/0", 1.0, channel="*")])


def test_a_scorer_must_not_give_what_a_fusion_makes():
    config = CreditConfig(channels={"outcome": 1.0}, fuse=[{"name": "overlong", "into": "outcome"}])
    both = group("a", [[1], [1]], [score("a/0", None), score("a/1", 0.0)])
    with pytest.raises(UserError, match=r"credit.fuse=outcome: a fusion makes this channel, and test gives it to a/1"):
        assign([both], config)


def test_a_scorer_that_failed_as_a_whole_masks_every_channel():
    _, _, _, known = of_channel([score("a/0", None, channel="*"), score("a/1", 1.0, turn=0, channel="x")])
    assert known.tolist() == [False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_named_with_its_trajectory_and_turn(value):
    with pytest.raises(JudgeError, match=r"test on channel 'x', trajectory a/1, turn 0.*(nan|inf)"):
        of_channel([score("a/1", value, turn=0, channel="x")])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([score("a/7", 1.0, channel="x")], "no such trajectory"),
        ([score("a/0", 1.0, turn=2, channel="x")], "has 2 turns"),
        ([score("a/0", 1.0, turn=-1, channel="x")], "has 2 turns"),
        ([score("a/0", 1.0, turn=0, channel="x")] * 2, "given twice"),
    ],
)
def test_scores_that_belong_nowhere_or_come_twice_are_errors(scores, message):
    with pytest.raises(JudgeError, match=message):
        of_channel(scores)


def test_a_channel_that_nobody_gives_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match=r"credit.channels=outcom: .*did you mean outcome"):
        assign(two_groups(), config(outcom=1.0))


def test_a_declared_channel_may_be_absent_and_counts_as_zero():
    batch, metrics = assign(two_groups(), config(outcome=1.0, progress=0.5), declared=["progress"])
    assert batch.loss_mask.any()
    assert metrics["reward/progress/mean"] == 0.0


def test_without_trajectories_there_is_nothing_to_assign():
    with pytest.raises(ValueError, match="no trajectories"):
        assign([Group(group_id="a", task=TASK, trajectories=())], config())


def test_a_context_that_begins_with_an_action_is_refused():
    broken = trajectory("a", 0, [turn(2, num_observed=0)])
    with pytest.raises(ValueError, match="trajectory a/0 turn 0"):
        assign([Group(group_id="a", task=TASK, trajectories=(broken,), scores=(score("a/0", 1.0),))], config())


def test_action_arrays_of_different_lengths_are_refused():
    broken = trajectory("a", 0, [dataclasses.replace(turn(2), logprobs=np.zeros(3, dtype=np.float32))])
    with pytest.raises(ValueError, match=r"trajectory a/0 turn 0: .* 2, 3 and 2"):
        assign([Group(group_id="a", task=TASK, trajectories=(broken,), scores=(score("a/0", 1.0),))], config())


def test_metrics_count_what_teaches_nothing():
    groups = [
        group("a", [[2], [2]], outcomes("a", 1.0, 1.0)),
        group("b", [[2], [2]], outcomes("b", 1.0, None)),
        group("c", [[2], [4, 4]], outcomes("c", 0.0, 1.0)),
    ]
    batch, metrics = assign(groups, config())
    assert metrics["credit/zero_variance_groups"] == 1
    assert metrics["credit/singleton_groups"] == 1
    assert metrics["credit/masked_share"] == pytest.approx(2 / 7)
    assert metrics["reward/mean"] == pytest.approx(4 / 5)
    assert metrics["reward/outcome/mean"] == pytest.approx(4 / 5)
    assert metrics["reward/std"] == pytest.approx(0.4)
    assert metrics["advantage/mean"] == pytest.approx(1 / 5)
    assert metrics["advantage/turn_0"] == pytest.approx(0.0)  # of a's two and c's two; b's one has no baseline
    assert metrics["advantage/turn_1"] == pytest.approx(1.0)
    assert "advantage/turn_2" not in metrics
    assert metrics["response_length/mean"] == pytest.approx(18 / 6)
    assert metrics["num_turns/mean"] == pytest.approx(7 / 6)
    assert metrics["episode/success_rate"] == pytest.approx(4 / 5)
    assert batch.num_loss_tokens == 14


def test_when_everything_is_masked_nothing_is_trained_and_nothing_is_nan():
    batch, metrics = assign([group("a", [[2], [2]], outcomes("a", None, None))], config())
    assert batch.num_loss_tokens == 0
    assert "reward/mean" not in metrics
    assert "episode/success_rate" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())
