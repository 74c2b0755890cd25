"""Selections: what of a scored group is trained on, against the worked cases, and what happens to masked scores."""

from dataclasses import replace

import pytest
from credit_pieces import TASK, group, score, trajectory
from golden_cases import covers, expected, inputs

from turnwise.config.schema import CreditConfig
from turnwise.credit.assign import assign
from turnwise.credit.select import Selector
from turnwise.credit.selections.dynamic_sampling import DynamicSampling, DynamicSamplingConfig
from turnwise.credit.selections.overlong import Overlong, OverlongConfig
from turnwise.credit.selections.prof import Prof, ProfConfig, balanced
from turnwise.credit.selections.rorecomp import Rorecomp, RorecompConfig
from turnwise.records import End, Group
from turnwise.replay import rest_of

WEIGHTS = {"outcome": 1.0}


def scored(name, values, *, turns=None, extra=()):
    outcomes = [score(f"{name}/{index}", value) for index, value in enumerate(values)]
    return group(name, turns or [[1] for _ in values], [*outcomes, *extra])


def indices(members):
    return [member.index for member in members]


def spread_is_kept(found, *, channel=None, singleton="zero"):
    config = DynamicSamplingConfig(channel=channel, singleton=singleton)
    return DynamicSampling(config).select(found, WEIGHTS) is not None


@covers("dapo_dynamic_sampling")
def test_dynamic_sampling_keeps_the_groups_of_the_goldens():
    metrics = inputs("dapo_dynamic_sampling")["group_metric"]
    wanted = expected("dapo_dynamic_sampling")["keep"]
    kept = [name for name, values in metrics.items() if spread_is_kept(scored(name, values), singleton="raw")]
    assert kept == wanted
    kept = [name for name, values in metrics.items() if spread_is_kept(scored(name, values))]
    assert kept == [name for name in wanted if len(metrics[name]) > 1]


def test_a_masked_score_makes_no_spread_and_one_known_score_is_a_singleton():
    assert not spread_is_kept(scored("a", [1.0, 1.0, None]))
    assert spread_is_kept(scored("a", [1.0, 0.0, None]))
    assert not spread_is_kept(scored("a", [1.0, None]))
    assert spread_is_kept(scored("a", [1.0, None]), singleton="raw")
    assert not spread_is_kept(scored("a", [None, None]), singleton="raw")


def test_the_spread_may_be_that_of_one_channel():
    found = scored("a", [1.0, 1.0], extra=[score("a/0", 0.3, channel="format"), score("a/1", 0.4, channel="format")])
    assert not spread_is_kept(found)
    assert spread_is_kept(found, channel="format")


def with_process(responses):
    steps = [
        score(f"a/{index}", value, turn=k, channel="process")
        for index, response in enumerate(responses)
        for k, value in enumerate(response["prm"])
    ]
    turns = [[1] * max(1, len(response["prm"])) for response in responses]
    return scored("a", [response["ok"] for response in responses], turns=turns, extra=steps)


@covers("prof")
def test_prof_keeps_the_members_of_the_goldens_with_their_scores_only():
    case = inputs("prof")
    kept = Prof(ProfConfig(keep=case["keep"])).select(with_process(case["responses"]), WEIGHTS)
    assert indices(kept.trajectories) == expected("prof")["kept"]
    right = [case["responses"][index]["ok"] for index in indices(kept.trajectories)]
    assert [sum(right), len(right) - sum(right)] == expected("prof")["n_pos_neg"]
    assert {each.trajectory_id for each in kept.scores} == {f"a/{index}" for index in expected("prof")["kept"]}


def test_prof_baselines_are_those_of_the_kept_members():
    case = inputs("prof")
    kept = Prof(ProfConfig(keep=case["keep"])).select(with_process(case["responses"]), WEIGHTS)
    batch, metrics = assign([kept], CreditConfig(estimator={"name": "rloo"}), declared=["process"])
    assert metrics["reward/mean"] == 0.5  # 4 right of 6 before, 2 of 4 after
    advantages = sorted(set(batch.advantages[batch.loss_mask].tolist()))
    assert advantages == pytest.approx([-2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("right", "wrong", "keep", "wanted"),
    [(4, 2, 4, (2, 2)), (1, 5, 4, (1, 3)), (5, 1, 4, (3, 1)), (3, 3, 3, (2, 1)), (0, 6, 4, (0, 4)), (1, 1, 4, (1, 1))],
)
def test_prof_balances_right_and_wrong_as_far_as_there_are_any(right, wrong, keep, wanted):
    assert balanced(right, wrong, keep) == wanted


def test_prof_correct_ranks_the_right_ones_only():
    responses = [{"ok": ok, "prm": [p]} for ok, p in ((1, 0.1), (1, 0.9), (0, 0.9), (0, 0.1))]
    both, right = (
        Prof(ProfConfig(keep=2, sides=sides)).select(with_process(responses), WEIGHTS) for sides in ("both", "right")
    )
    assert indices(both.trajectories) == [1, 3]
    assert indices(right.trajectories) == [1, 2]


def test_prof_ranks_a_masked_process_score_last_and_leaves_out_an_unknown_outcome():
    responses = [{"ok": 1, "prm": [None, 0.9]}, {"ok": 1, "prm": [0.1]}, {"ok": 0, "prm": []}, {"ok": 0, "prm": [0.8]}]
    kept = Prof(ProfConfig(keep=2)).select(with_process(responses), WEIGHTS)
    assert indices(kept.trajectories) == [1, 3]
    kept = Prof(ProfConfig(keep=3)).select(with_process([*responses[:2], {"ok": None, "prm": [0.9]}]), WEIGHTS)
    assert indices(kept.trajectories) == [0, 1]


def recomposed(found, **options):
    return Rorecomp(RorecompConfig(**options)).select(found, WEIGHTS)


@covers("rorecomp")
def test_rorecomp_splits_the_group_of_the_goldens():
    case = inputs("rorecomp")
    names = [response["id"] for response in case["responses"]]
    found = scored("a", [r["ok"] for r in case["responses"]], turns=[[r["n"]] for r in case["responses"]])
    first = recomposed(found, ratio=case["ratio"], length="tokens")
    assert [names[member.index] for member in first.trained_now] == expected("rorecomp")["priority"]
    assert [names[member.index] for member in rest_of(first).trained_now] == expected("rorecomp")["replay"]
    by_turns = scored("a", [r["ok"] for r in case["responses"]], turns=[[1] * r["n"] for r in case["responses"]])
    assert recomposed(by_turns, ratio=case["ratio"]).trained == first.trained


def test_both_parts_of_a_group_have_the_whole_groups_advantages_and_no_episode_twice():
    found = scored("a", [1, 1, 0, 0], turns=[[1], [1, 1], [1], [1, 1]])
    first = recomposed(found)
    whole, _ = assign([found], CreditConfig(estimator={"name": "rloo"}))
    parts = [assign([part], CreditConfig(estimator={"name": "rloo"}))[0] for part in (first, rest_of(first))]
    assert [part.num_rows for part in parts] == [2, 2]
    assert sorted(a for part in parts for a in part.advantages.tolist()) == sorted(whole.advantages.tolist())
    assert parts[0].advantages[parts[0].loss_mask].tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3])


def test_an_unknown_outcome_belongs_to_the_rest():
    first = recomposed(scored("a", [1, 0, None]))
    assert (first.trained, first.later) == ((0, 1), (2,))
    assert recomposed(scored("a", [None, None])) is None


def ended(ends, lengths):
    members = [replace(trajectory("a", i, [n]), end=end) for i, (n, end) in enumerate(zip(lengths, ends, strict=True))]
    outcomes = [score(f"a/{i}", float(i)) for i in range(len(lengths))]
    return Group(group_id="a", task=TASK, trajectories=tuple(members), scores=tuple(outcomes))


def overlong(found, **options):
    return Selector(selections=[("overlong", Overlong(OverlongConfig(**options)))], weights=WEIGHTS).select(found)


def test_overlong_members_stay_in_the_statistics_or_leave_them():
    found = ended([End.TERMINATED, End.TRUNCATED, End.TERMINATED], [1, 1, 9])
    stays = overlong(found, max_policy_tokens=5)
    assert stays.left_out == {"overlong": 2}
    assert (len(stays.group.trajectories), indices(stays.group.trained_now)) == (3, [0])
    batch, metrics = assign([stays.group], CreditConfig(estimator={"name": "rloo"}))
    assert (batch.num_rows, metrics["reward/mean"]) == (1, 1.0)
    assert batch.advantages[batch.loss_mask].tolist() == [-1.5]
    leaves = overlong(found, statistics=False)
    assert indices(leaves.group.trajectories) == [0, 2]
    assert leaves.left_out == {"overlong": 1}


def test_a_group_of_overlong_members_only_is_left_out_whole_and_counted():
    for statistics in (True, False):
        found = overlong(ended([End.TRUNCATED, End.TRUNCATED], [1, 1]), statistics=statistics)
        assert (found.group, found.left_out, found.last) == (None, {"overlong": 2}, "overlong")


def test_selections_are_applied_in_order_and_each_counts_what_it_left_out():
    config = CreditConfig(select=[{"name": "overlong"}, {"name": "dynamic_sampling"}, {"name": "rorecomp"}])
    selector = Selector.of(config)
    found = selector.select(ended([End.TERMINATED] * 3 + [End.TRUNCATED], [1, 1, 1, 1]))
    assert found.left_out == {"overlong": 1}
    assert (found.group.num_wanted, len(found.group.trajectories)) == (3, 4)
    assert selector.delay == 1
    equal = selector.select(scored("b", [1, 1]))
    assert (equal.group, equal.left_out, equal.last) == (None, {"dynamic_sampling": 2}, "dynamic_sampling")


def test_without_selections_a_group_is_left_as_it_is():
    found = scored("a", [1, 1])
    assert Selector().select(found).group is found
