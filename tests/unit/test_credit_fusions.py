"""What every registered fusion must keep, and what each of them does with masks, groups and edges."""

import copy
import dataclasses

import numpy as np
import pytest
from credit_pieces import group, score
from fusion_pieces import FUSIONS, channels_named_by, fusion, of_channels
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.config.plugins import channels_in, named_channels
from turnwise.config.schema import CreditConfig
from turnwise.credit.assign import assign
from turnwise.credit.correlation import correlation, whitened_uniform
from turnwise.credit.fuse import fuse
from turnwise.errors import JudgeError, UserError

every_fusion = pytest.mark.parametrize("name", FUSIONS)
quick = settings(max_examples=12, deadline=None, derandomize=True)
shares = st.integers(0, 16).map(lambda n: n / 16)

OF_MANY = {
    "reliability": ["channel", "outcome"],
    "contrast": ["reference"],
    "decorrelate": ["channels"],
}
"""Options whose channels go into a statistic of group or batch: a masked score leaves it, and changes it for all."""


@st.composite
def shapes(draw, *, least=1):
    """Return (groups, turns by trajectory): 1 to 3 groups of 1 to 4 trajectories with 1 to 4 turns."""
    groups = [f"g{name}" for name in range(draw(st.integers(1, 3))) for _ in range(draw(st.integers(least, 4)))]
    return groups, [draw(st.integers(1, 4)) for _ in groups]


def scored(shape, names, seed, *, masked=0.0):
    """Return rewards with scores in [0, 1/4] on these channels, so that sums over a trajectory are within [0, 1.25]."""
    groups, num_turns = shape
    rng = np.random.default_rng(seed)

    def some(count):
        return [None if rng.random() < masked else round(float(rng.random()) / 5.0, 3) for _ in range(count)]

    channels = {name: ([some(count) for count in num_turns], some(len(groups))) for name in names}
    return of_channels(groups, num_turns, width=4, update=7, **channels)


def rows(rewards, order):
    """Return the rewards of these trajectories, in this order."""
    changes = {
        name: {channel: array[order] for channel, array in getattr(rewards, name).items()}
        for name in ("turn", "turn_mask", "outcome", "outcome_mask")
    }
    return dataclasses.replace(
        rewards,
        group=[rewards.group[i] for i in order],
        num_turns=rewards.num_turns[order],
        num_tokens=rewards.num_tokens[order],
        **changes,
    )


def arrays(rewards):
    return {
        (part, channel): array
        for part in ("turn", "turn_mask", "outcome", "outcome_mask")
        for channel, array in getattr(rewards, part).items()
    }


def assert_same(one, other, **close):
    assert one.weights == pytest.approx(other.weights)
    for key, array in arrays(one).items():
        np.testing.assert_allclose(array, arrays(other)[key], err_msg=str(key), **(close or {"atol": 1e-12}))


@every_fusion
@quick
@given(shape=shapes(), seed=st.integers(0, 999))
def test_the_arrays_given_are_left_as_they_are(name, shape, seed):
    built = fusion(name)
    batch = scored(shape, channels_named_by(built), seed, masked=0.2)
    before = copy.deepcopy(batch)
    built.fuse(batch)
    for key, array in arrays(batch).items():
        np.testing.assert_array_equal(array, arrays(before)[key])
    assert batch.weights == before.weights


@every_fusion
@quick
@given(shape=shapes(), seed=st.integers(0, 999))
def test_masked_stays_masked_and_is_0_and_all_is_finite(name, shape, seed):
    built = fusion(name)
    batch = scored(shape, channels_named_by(built), seed, masked=0.3)
    fused = built.fuse(batch)
    for part in ("turn", "outcome"):
        for channel, values in getattr(fused, part).items():
            mask = getattr(fused, f"{part}_mask")[channel]
            assert not (mask & ~getattr(batch, f"{part}_mask")[channel]).any()
            assert np.isfinite(values).all()
            assert not values[~mask].any()
    assert set(fused.weights) == set(batch.weights)


@every_fusion
@quick
@given(shape=shapes(), seed=st.integers(0, 999))
def test_what_lies_under_the_mask_is_never_read(name, shape, seed):
    built = fusion(name)
    batch = scored(shape, channels_named_by(built), seed, masked=0.3)
    dirty = dataclasses.replace(
        batch,
        turn={c: np.where(batch.turn_mask[c], x, np.nan) for c, x in batch.turn.items()},
        outcome={c: np.where(batch.outcome_mask[c], x, np.nan) for c, x in batch.outcome.items()},
    )
    touched, clean = built.fuse(dirty), built.fuse(batch)
    for channel in set(named_channels(built, "made_options")) | changed_by(built, batch):
        np.testing.assert_array_equal(touched.turn[channel], clean.turn[channel])
        np.testing.assert_array_equal(touched.outcome[channel], clean.outcome[channel])


def changed_by(built, batch):
    fused = built.fuse(batch)
    return {
        channel
        for part in ("turn", "turn_mask", "outcome", "outcome_mask")
        for channel, array in getattr(fused, part).items()
        if array is not getattr(batch, part)[channel]
    }


@every_fusion
@quick
@given(shape=shapes(), seed=st.integers(0, 999), data=st.data())
def test_a_value_is_masked_where_a_part_of_it_is(name, shape, seed, data):
    """Whatever a score decides of its own trajectory is masked when that score is: nothing takes it for 0."""
    built = fusion(name)
    options = [option for option in getattr(built, "channel_options", ()) if option not in OF_MANY.get(name, ())]
    sources = [channel for option in options for channel in channels_in(getattr(built.config, option))]
    if not sources:
        return
    batch = scored(shape, channels_named_by(built), seed)
    channel, row = data.draw(st.sampled_from(sources)), data.draw(st.integers(0, len(shape[0]) - 1))
    turn = data.draw(st.none() | st.integers(0, shape[1][row] - 1))
    part, place = ("outcome", (row,)) if turn is None else ("turn", (row, turn))

    def fused(value):
        changed = getattr(batch, part)[channel].copy(), getattr(batch, f"{part}_mask")[channel].copy()
        changed[0][place], changed[1][place] = value or 0.0, value is not None
        values = {**getattr(batch, part), channel: changed[0]}
        masks = {**getattr(batch, f"{part}_mask"), channel: changed[1]}
        return built.fuse(dataclasses.replace(batch, **{part: values, f"{part}_mask": masks}))

    low, high, masked = fused(0.0), fused(0.2), fused(None)
    for kind in ("turn", "outcome"):
        for key, values in getattr(low, kind).items():
            differs = np.abs(values[row] - getattr(high, kind)[key][row]) > 1e-12
            assert not (differs & getattr(masked, f"{kind}_mask")[key][row]).any(), (key, kind)


@every_fusion
@quick
@given(shape=shapes(), seed=st.integers(0, 999))
def test_permuting_trajectories_permutes_the_output_only(name, shape, seed):
    built = fusion(name)
    batch = scored(shape, channels_named_by(built), seed, masked=0.2)
    order = np.random.default_rng(seed).permutation(len(shape[0]))
    assert_same(built.fuse(rows(batch, order)), rows(built.fuse(batch), order), atol=1e-9)


@every_fusion
@quick
@given(shape=shapes(least=2), seed=st.integers(0, 999))
def test_a_trajectory_masked_on_every_channel_is_as_if_it_were_not_there(name, shape, seed):
    built = fusion(name)
    batch = scored(shape, channels_named_by(built), seed)
    everything = {channel: np.arange(len(shape[0])) > 0 for channel in batch.outcome}
    masked = dataclasses.replace(
        batch,
        outcome_mask=everything,
        turn_mask={channel: mask & everything[channel][:, None] for channel, mask in batch.turn_mask.items()},
    )
    rest = np.arange(1, len(shape[0]))
    fused = built.fuse(masked)
    assert_same(rows(fused, rest), built.fuse(rows(batch, rest)), atol=1e-9)
    for channel in changed_by(built, masked):
        assert not fused.turn_mask[channel][0].any()
        assert not fused.outcome_mask[channel][0]


@every_fusion
@quick
@given(shape=shapes(), seed=st.integers(0, 999))
def test_padded_turns_change_nothing(name, shape, seed):
    built = fusion(name)
    batch = scored(shape, channels_named_by(built), seed)
    wide = dataclasses.replace(
        batch,
        num_tokens=np.pad(batch.num_tokens, ((0, 0), (0, 2))),
        turn={channel: np.pad(array, ((0, 0), (0, 2))) for channel, array in batch.turn.items()},
        turn_mask={channel: np.pad(array, ((0, 0), (0, 2))) for channel, array in batch.turn_mask.items()},
    )
    plain, padded = built.fuse(batch), built.fuse(wide)
    for channel, array in padded.turn.items():
        np.testing.assert_array_equal(array[:, :4], plain.turn[channel])
        assert not array[:, 4:].any()
        assert not padded.turn_mask[channel][:, 4:].any()
        np.testing.assert_array_equal(padded.outcome[channel], plain.outcome[channel])


@every_fusion
def test_a_trajectory_without_turns_breaks_nothing(name):
    built = fusion(name)
    batch = of_channels(["a", "a"], [0, 2], **{channel: (None, [0.5, 0.25]) for channel in channels_named_by(built)})
    fused = built.fuse(batch)
    assert all(np.isfinite(array).all() for array in arrays(fused).values())


@every_fusion
def test_a_channel_that_is_not_there_is_named(name):
    built = fusion(name)
    with pytest.raises(UserError, match=r"a fusion names a channel that is not there; add it to credit\.channels"):
        built.fuse(of_channels(["a"], [1], other=(None, [1.0])))


def test_a_closed_gate_takes_all_turns_and_an_unknown_one_masks_them():
    batch = of_channels(
        ["a"] * 3,
        [2, 2, 2],
        format=([[0.1, 0.2]] * 3, None),
        tool=(None, [1.0, 1.0, 1.0]),
        outcome=(None, [1.0, 0.0, None]),
    )
    fused = fusion("gate").fuse(batch)
    assert fused.turn["format"].tolist() == [[0.1, 0.2], [0.0, 0.0], [0.0, 0.0]]
    assert fused.outcome["tool"].tolist() == [1.0, 0.0, 0.0]
    assert fused.turn_mask["format"].tolist() == [[True, True], [True, True], [False, False]]
    assert fused.outcome_mask["tool"].tolist() == [True, True, False]


def test_a_level_counts_only_if_all_higher_ones_pass_and_each_has_its_threshold():
    channels = {"low": [1.0] * 4, "middle": [0.5, 0.5, 0.2, 0.5], "high": [3.0, 2.0, 3.0, 0.0]}
    batch = of_channels(["a"] * 4, [1] * 4, **{name: (None, scores) for name, scores in channels.items()})
    fused = fusion("gate", levels=[["low"], ["middle"], ["high"]], thresholds=[0.2, 2.0]).fuse(batch)
    assert fused.outcome["low"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert fused.outcome["middle"].tolist() == [0.5, 0.0, 0.2, 0.0]
    assert fused.outcome["high"].tolist() == [3.0, 2.0, 3.0, 0.0]


def test_a_closed_gate_does_not_unmask_what_another_gate_hides():
    batch = of_channels(["a"], [1], low=(None, [1.0]), middle=(None, [None]), high=(None, [0.0]))
    fused = fusion("gate", levels=[["low"], ["middle"], ["high"]]).fuse(batch)
    assert not fused.outcome_mask["low"][0]


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("gate", {"levels": [["outcome"]]}, "a gate needs two levels of channels"),
        ("gate", {"levels": [["outcome"], []]}, "a gate needs two levels of channels"),
        ("gate", {"levels": [["a"], ["a"]]}, "stands in two places"),
        ("gate", {"levels": [["a"], ["b"]], "thresholds": [0.0, 1.0]}, "1 levels are gates"),
        ("constrain", {"constraints": {}}, "nothing is required"),
        ("constrain", {"channels": []}, "no reward is constrained"),
        ("ensemble", {"channels": ["a"]}, "needs two different channels"),
        ("ensemble", {"channels": ["a", "a"]}, "needs two different channels"),
        ("decorrelate", {"channels": ["a", "b", "a"]}, "needs two different channels"),
        ("overlong", {"max_tokens": 10, "buffer": 11}, "is longer than max_tokens=10"),
    ],
)
def test_options_that_do_not_go_together_are_refused(name, options, problem):
    with pytest.raises(UserError, match=problem):
        fusion(name, **options)


def test_a_broken_constraint_replaces_the_whole_reward():
    batch = of_channels(
        ["a"] * 4,
        [2] * 4,
        outcome=([[0.5, 0.0]] * 4, [1.0] * 4),
        grounded=(None, [1.0, 0.5, 0.4, None]),
        safe=([[0.1, 0.1], [0.1, 0.0], [1.0, 1.0], [0.0, 0.0]], None),
    )
    fused = fusion("constrain", otherwise=-1.0).fuse(batch)
    assert fused.turn["outcome"].tolist() == [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert fused.outcome["outcome"].tolist() == [1.0, -1.0, -1.0, 0.0]
    assert fused.outcome_mask["outcome"].tolist() == [True, True, True, False]
    assert fused.turn_mask["outcome"].tolist() == [[True, True]] * 3 + [[False, False]]


def test_a_constraint_by_turn_decides_over_its_turn_only():
    batch = of_channels(["a"], [3], process=([[1.0, 1.0, 1.0]], [2.0]), grounded=([[1.0, 0.0, None]], None))
    built = fusion("constrain", channels=["process"], constraints={"grounded": 0.5}, scope="turn", otherwise=-0.5)
    fused = built.fuse(batch)
    assert fused.turn["process"].tolist() == [[1.0, -0.5, 0.0]]
    assert fused.turn_mask["process"].tolist() == [[True, True, False]]
    assert fused.outcome["process"].tolist() == [2.0]


def test_process_rewards_are_below_0_after_a_failure_and_above_after_a_success():
    batch = of_channels(["a"] * 3, [3, 3, 3], process=([[0.2, None, 0.7]] * 3, None), outcome=(None, [1.0, 0.0, None]))
    fused = fusion("renorm").fuse(batch)
    np.testing.assert_allclose(fused.turn["process"], [[0.2, 0.0, 0.0], [-0.8, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert fused.turn_mask["process"].tolist() == [[True, False, True]] * 2 + [[False] * 3]
    assert fused.outcome is not batch.outcome
    np.testing.assert_array_equal(fused.outcome["outcome"], batch.outcome["outcome"])


def test_a_failure_with_a_masked_rubric_is_masked_too():
    batch = of_channels(["a"] * 3, [1] * 3, outcome=(None, [1.0, 0.0, 1.0]), rubric=(None, [0.5, None, 0.25]))
    fused = fusion("only_positive", alpha=0.5).fuse(batch)
    assert fused.outcome["outcome"].tolist() == [1.0, 0.0, 0.75]
    assert fused.outcome_mask["outcome"].tolist() == [True, False, True]


def test_a_rubric_makes_no_failure_worse_and_no_group_without_evidence_better():
    batch = of_channels(["a", "a", "b"], [1] * 3, outcome=(None, [-1.0, 1.0, 1.0]), rubric=(None, [1.0, 0.5, 0.0]))
    fused = fusion("only_positive", alpha=0.5).fuse(batch)
    assert fused.outcome["outcome"].tolist() == [-0.5, 0.75, 0.5]


def test_a_rubric_that_is_not_relative_pays_a_lone_success_for_the_evidence_it_has():
    batch = of_channels(["a", "a", "b"], [1] * 3, outcome=(None, [-1.0, 1.0, 1.0]), rubric=(None, [1.0, 0.5, 0.25]))
    fused = fusion("only_positive", alpha=0.5, relative=False).fuse(batch)
    assert fused.outcome["outcome"].tolist() == [-0.5, 0.75, 0.625]
    paid = fusion("only_positive", alpha=0.5, relative=False, by_turn=1.0)
    turns = of_channels("a", [2], outcome=(None, [1.0]), rubric=([[0.25, 0.25]], None))
    assert paid.fuse(turns).turn["outcome"].tolist() == [[0.125, 0.125]]
    with pytest.raises(JudgeError, match=r"'rubric', trajectory a/0, whole trajectory: 2\.0 is not within 0 and 1"):
        paid.fuse(of_channels("a", [1], outcome=(None, [1.0]), rubric=(None, [2.0])))


@pytest.mark.parametrize(
    ("name", "channels", "place"),
    [
        ("only_positive", {"outcome": [1.0, 1.0], "rubric": [0.5, -0.5]}, "'rubric', trajectory a/1, whole"),
        ("tiers", {"outcome": [1.0, 1.0], "proximity": [0.5, 1.5]}, "'proximity', trajectory a/1, whole"),
        ("trust", {"process": [1.0, 1.0], "trust": [0.5, 1.5]}, "'trust', trajectory a/1, whole"),
    ],
)
def test_a_score_out_of_range_is_the_judges_error_and_says_where(name, channels, place):
    batch = of_channels(["a", "a"], [1, 1], **{channel: (None, scores) for channel, scores in channels.items()})
    with pytest.raises(JudgeError, match=place):
        fusion(name).fuse(batch)


def test_a_confidence_out_of_range_names_its_turn():
    batch = of_channels(["b", "a"], [2, 2], process=(None, None), trust=([[1.0, 1.0], [0.5, -0.25]], None))
    with pytest.raises(JudgeError, match=r"trajectory a/0, turn 1: -0.25 is not within 0 and 1"):
        fusion("trust", scope="turn").fuse(batch)


def test_trust_weighs_turns_or_whole_trajectories():
    batch = of_channels(["a"], [2], process=([[0.5, 1.0]], [2.0]), trust=([[1.0, 0.0]], None))
    by_turn, by_trajectory = (fusion("trust", scope=scope).fuse(batch) for scope in ("turn", "trajectory"))
    assert (by_turn.turn["process"].tolist(), by_turn.outcome["process"].tolist()) == ([[0.5, 0.0]], [2.0])
    assert (by_trajectory.turn["process"].tolist(), by_trajectory.outcome["process"].tolist()) == ([[0.5, 1.0]], [2.0])


def test_a_masked_confidence_masks_its_turn_or_its_trajectory():
    batch = of_channels(["a"], [2], process=([[0.5, 1.0]], [2.0]), trust=([[1.0, None]], None))
    by_turn, by_trajectory = (fusion("trust", scope=scope).fuse(batch) for scope in ("turn", "trajectory"))
    assert by_turn.turn_mask["process"].tolist() == [[True, False]]
    assert by_turn.outcome_mask["process"].tolist() == [True]
    assert not by_trajectory.turn_mask["process"].any()
    assert not by_trajectory.outcome_mask["process"].any()


def test_a_judge_that_prefers_wrong_answers_counts_less_in_that_group():
    judged = [0.2, 0.8, 0.9, 0.1, 0.7, None, 0.4, 0.4]
    batch = of_channels(
        ["a", "a", "b", "b", "c", "c", "d", "d"],
        [1] * 8,
        process=(None, judged),
        outcome=(None, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, None]),
    )
    drop = fusion("reliability").fuse(batch).outcome["process"]
    keep = fusion("reliability", undecided="keep").fuse(batch).outcome["process"]
    shrunk = np.exp(0.2 - 0.8)
    np.testing.assert_allclose(drop, [0.2 * shrunk, 0.8 * shrunk, 0.9, 0.1, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(keep[4:], [0.7, 0.0, 0.4, 0.4])
    assert fusion("reliability").fuse(batch).outcome_mask["process"].tolist() == [True] * 5 + [False, True, True]


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("linear", [1.0, 1.0, 0.6, 0.2, 0.2]),
        ("cosine", [1.0, 1.0, 0.6, 0.2, 0.2]),
        ("exponential", [1.0, 1.0, 0.2 + 0.8 * np.exp(-0.5), 0.2 + 0.8 * np.exp(-1.0), 0.2 + 0.8 * np.exp(-2.0)]),
    ],
)
def test_a_weight_is_annealed_over_the_updates(schedule, shares):
    built = fusion("anneal", schedule=schedule, start=10, over=20, final=0.2)
    found = []
    for update in (0, 10, 20, 30, 50):
        batch = of_channels(["a"], [1], process=(None, [1.0]), outcome=(None, [1.0]), update=update)
        batch = dataclasses.replace(batch, weights={"process": 0.5, "outcome": 1.0})
        weights = built.fuse(batch).weights
        assert weights["outcome"] == 1.0
        found.append(weights["process"] / 0.5)
    np.testing.assert_allclose(found, shares)


def test_a_channel_annealed_to_nothing_keeps_no_turn_out():
    batch = of_channels(["a"], [1], process=(None, [None]), outcome=(None, [1.0]), update=100)
    assert fusion("anneal").fuse(batch).channels == ["outcome"]


@pytest.mark.parametrize(("aggregate", "bonus"), [("sum", 1.0), ("mean", 0.25), ("max", 0.5)])
def test_proximity_by_step_becomes_one_number(aggregate, bonus):
    proximity = [[0.0, 0.3, 0.5, 0.1], [0.0]]  # sum 0.9, mean 0.225, max 0.5
    batch = of_channels(["a", "a"], [4, 1], outcome=(None, [0.0, 1.0]), proximity=(proximity, None))
    fused = fusion("tiers", aggregate=aggregate, num_tiers=4, alpha=0.99).fuse(batch)
    np.testing.assert_allclose(fused.outcome["outcome"], [0.99 * bonus, 1.0])


def test_rounding_moves_nothing_into_the_next_tier():
    third = 0.1 + 0.2  # above 0.3 by rounding
    batch = of_channels(["a"], [1], outcome=(None, [0.0]), proximity=(None, [third]))
    assert fusion("tiers", num_tiers=10).fuse(batch).outcome["outcome"][0] == pytest.approx(0.5 * 0.3)


def test_without_reference_channels_the_group_is_the_reference():
    batch = of_channels(["a", "a", "a", "b", "b"], [2] * 5, outcome=([[1.0, 0.0]] * 5, [1.0, 0.0, None, 5.0, None]))
    fused = fusion("preference", references=[]).fuse(batch)
    won = 1.0 / (1.0 + np.exp(-1.0))
    np.testing.assert_allclose(fused.outcome["outcome"], [won, 1.0 - won, 0.0, 0.0, 0.0])
    assert fused.outcome_mask["outcome"].tolist() == [True, True, False, False, False]
    assert not fused.turn["outcome"].any()


def test_preference_is_finite_however_far_the_scores_are():
    batch = of_channels(["a", "a"], [1, 1], outcome=(None, [1e6, -1e6]))
    assert fusion("preference", references=[], k=10.0).fuse(batch).outcome["outcome"].tolist() == [1.0, 0.0]


def test_contrast_subtracts_the_known_references_of_the_group():
    batch = of_channels(
        ["a", "a", "b"], [1] * 3, outcome=(None, [1.0, None, 1.0]), reference=(None, [0.25, 0.75, None])
    )
    fused = fusion("contrast").fuse(batch)
    assert fused.outcome["outcome"].tolist() == [0.5, 0.0, 0.0]
    assert fused.outcome_mask["outcome"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [("mean", 0.4), ("min", 0.0), ("mean_std", 0.4 - 2.0 * np.sqrt(0.08)), ("mean_variance", 0.4 - 2.0 * 0.08)],
)
def test_judges_become_one_channel(how, wanted):
    scores = {"one": 0.6, "two": 0.0, "three": 0.6}
    channels = {name: ([[value, value]], [value]) for name, value in scores.items()}
    channels["two"] = ([[0.0, None]], [0.0])
    batch = of_channels(["a"], [2], ensemble=(None, None), **channels)
    fused = fusion("ensemble", how=how, penalty=2.0).fuse(batch)
    np.testing.assert_allclose(fused.turn["ensemble"], [[wanted, 0.0]], atol=1e-12)
    np.testing.assert_allclose(fused.outcome["ensemble"], [wanted], atol=1e-12)
    assert fused.turn_mask["ensemble"].tolist() == [[True, False]]


def test_rubrics_that_say_the_same_share_a_weight():
    one, other = [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]
    batch = of_channels(
        ["a"] * 5,
        [1] * 5,
        one=(None, [*one, 1.0]),
        two=(None, [*one, 1.0]),
        three=(None, [*other, None]),
        rubric=(None, None),
    )
    fused = fusion("decorrelate", ridge=1e-6).fuse(batch)
    share = 1.0 / np.sqrt(2.0)  # of a pair of equal rubrics, relative to an independent one
    weights = np.asarray([share, share, 1.0]) / (1.0 + 2.0 * share)
    np.testing.assert_allclose(fused.outcome["rubric"][:4], np.stack([one, one, other], axis=1) @ weights, atol=1e-5)
    assert fused.outcome_mask["rubric"].tolist() == [True] * 4 + [False]


def test_a_constant_rubric_and_a_batch_of_one_have_no_correlations():
    assert correlation(np.asarray([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert correlation(np.zeros((0, 2))).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert np.isfinite(whitened_uniform(-np.ones((2, 2)) + 2.0 * np.eye(2), 1e-3)).all()


def test_differences_telescope_to_the_turns_own_score():
    batch = of_channels(["a", "a"], [3, 2], process=([[0.5, 0.9, 0.2], [0.3, 0.4]], [1.0, 0.0]))
    fused = fusion("delta").fuse(batch)
    np.testing.assert_allclose(fused.turn["process"], [[-0.4, 0.7, 0.2], [-0.1, 0.4, 0.0]])
    np.testing.assert_allclose(fused.turn["process"][0, ::-1].cumsum()[::-1], [0.5, 0.9, 0.2])
    assert fused.outcome["process"].tolist() == [1.0, 0.0]


def test_a_masked_score_masks_the_difference_before_it():
    batch = of_channels(["a"], [3], process=([[0.5, 0.9, None]], None))
    assert fusion("delta").fuse(batch).turn_mask["process"].tolist() == [[True, False, False]]


def test_clipped_turns_are_marked_down_at_most():
    batch = of_channels(["a"], [3], process=([[0.5, 0.9, None]], [1.0]))
    fused = fusion("clip", eta=0.6).fuse(batch)
    np.testing.assert_allclose(fused.turn["process"], [[-0.1, 0.0, 0.0]])
    assert fused.outcome["process"].tolist() == [1.0]


def test_each_turn_may_have_its_own_overlong_penalty():
    tokens = np.asarray([[6, 8, 12], [10, 0, 0]])
    batch = of_channels(["a", "a"], [3, 1], num_tokens=tokens, overlong=(None, None))
    fused = fusion("overlong", max_tokens=10, buffer=4, scope="turn").fuse(batch)
    assert fused.turn["overlong"].tolist() == [[0.0, -0.5, -1.0], [-1.0, 0.0, 0.0]]
    assert not fused.outcome["overlong"].any()


def test_order_matters():
    batch = of_channels(["a"], [1], format=(None, [1.0]), outcome=(None, [0.0]), reference=(None, [-1.0]))
    gate, contrast = fusion("gate", levels=[["format"], ["outcome"]]), fusion("contrast")
    assert fuse(batch, [gate, contrast]).outcome["format"].tolist() == [0.0]
    assert fuse(batch, [contrast, gate]).outcome["format"].tolist() == [1.0]


def two_scored():
    scores = [
        score("a/0", 1.0),
        score("a/1", 0.0),
        *(score(f"a/{i}", 0.5, turn=0, channel="process") for i in range(2)),
    ]
    return [group("a", [[2, 2], [2, 9]], scores)]


def test_what_a_fusion_makes_needs_no_scorer_and_reaches_the_batch():
    channels = {"outcome": 1.0, "overlong": 2.0}
    spec = [{"name": "overlong", "max_tokens": 11, "buffer": 4}]
    batch, metrics = assign(two_scored(), CreditConfig(channels=channels, fuse=spec))
    assert metrics["reward/overlong/mean"] == -0.5
    assert batch.advantages[batch.turn_ids >= 0].tolist() == [3.0] * 4 + [-3.0] * 11
    with pytest.raises(UserError, match="no scorer gave this channel"):
        assign(two_scored(), CreditConfig(channels=channels))


def test_the_update_decides_the_weight_of_an_annealed_channel():
    config = CreditConfig(channels={"outcome": 1.0, "process": 1.0}, fuse=[{"name": "anneal", "over": 10}])
    means = [assign(two_scored(), config, update=update)[1]["reward/mean"] for update in (0, 5, 10)]
    np.testing.assert_allclose(means, [1.0, 0.75, 0.5])


def test_only_positive_by_turn_pays_the_turns_that_earned_it_and_the_same_in_all():
    turns = {"rubric": ([[0.25, 0.0, 0.25], [0.5, 0.5], [1.0, 0.0]], None)}
    batch = of_channels("aaa", [3, 2, 2], outcome=(None, [1.0, 1.0, 0.0]), **turns)
    fused = fusion("only_positive", alpha=0.4, by_turn=1.0).fuse(batch)
    assert fused.turn["outcome"] == pytest.approx(np.array([[0.1, 0.0, 0.1], [0.2, 0.2, 0.0], [0.0, 0.0, 0.0]]))
    assert fused.outcome["outcome"] == pytest.approx([0.6, 0.6, 0.0])
    whole = fusion("only_positive", alpha=0.4).fuse(batch)
    totals = fused.outcome["outcome"] + fused.turn["outcome"].sum(axis=1)
    assert totals == pytest.approx(whole.outcome["outcome"] + whole.turn["outcome"].sum(axis=1))


def test_only_positive_pays_a_part_to_the_turns_and_the_rest_with_the_outcome():
    turns = {"rubric": ([[0.25, 0.0, 0.25], [0.5, 0.5], [1.0, 0.0]], None)}
    batch = of_channels("aaa", [3, 2, 2], outcome=(None, [1.0, 1.0, 0.0]), **turns)
    fused, none, everything = (
        fusion("only_positive", alpha=0.4, by_turn=part).fuse(batch) for part in (0.25, 0.0, 1.0)
    )
    for side in ("turn", "outcome"):
        parts = [getattr(one, side)["outcome"] for one in (fused, none, everything)]
        np.testing.assert_allclose(parts[0], 0.75 * parts[1] + 0.25 * parts[2])


def test_only_positive_by_turn_leaves_a_masked_turn_masked():
    batch = of_channels("aa", [2, 2], outcome=(None, [1.0, 1.0]), rubric=([[0.5, None], [0.5, 0.5]], None))
    fused = fusion("only_positive", by_turn=1.0).fuse(batch)
    assert not fused.turn_mask["outcome"][0].all()
    assert fused.turn_mask["outcome"][1].all()
