"""Credit keeps guided attempts apart: no statistic of first attempts knows of them, nor the other way round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from credit_pieces import score, trajectory
from estimator_cases import CASES
from golden_cases import expected, inputs
from guided_pieces import guided, mixed_group

from turnwise import registry
from turnwise.config.plugins import build_plugin
from turnwise.config.schema import CreditConfig
from turnwise.credit.assign import assign
from turnwise.credit.select import Selector
from turnwise.credit.split import by_kind, joined_groups, unguided
from turnwise.records import Batch, Group

TURNS = [[2] * 11, [3, 1], [2, 2, 2], [1] * 9, [2, 2], [4], [1] * 37]
FIRST: list[float | None] = [1.0, 0.0, 0.0, 1.0]
SECOND: list[float | None] = [1.0, 1.0, 0.0]


def config(name: str = "rloo", scale: str | None = None, **options: Any) -> CreditConfig:
    section = {"name": name, **options}
    kind, built = build_plugin("estimator", section)
    named = [option for option in getattr(kind, "channel_options", ()) if option != "immediate"]
    extra = {str(getattr(built, option)): 1.0 for option in named}
    values = {str(getattr(built, option)): 0.0 for option in getattr(kind, "value_options", ())}
    items = getattr(built, "dependence", None) or {}
    judged = {item: 1.0 for on in items.values() for item in on} if name == "cm2_step" else {}
    channels = {"outcome": 1.0, "process": 0.5, **extra, **values, **judged}
    return CreditConfig(channels=channels, estimator=section, scale=scale)


def with_process(group: Group) -> Group:
    """Add a score of every turn, on the channels that estimators read, that tells turns and members apart."""
    more = [
        score(m.trajectory_id, 0.1 * k - 0.05 * m.index, turn=k, channel=channel)
        for channel in ("process", "value", "critic")
        for m in group.trajectories
        for k in range(len(m.turns))
    ]
    keyed = tuple(
        replace(m, turns=tuple(replace(t, state_key=f"s{k}", belief_key=f"b{k % 2}") for k, t in enumerate(m.turns)))
        for m in group.trajectories
    )
    return replace(group, trajectories=keyed, scores=(*group.scores, *more))


def groups() -> list[Group]:
    return [with_process(mixed_group(name, FIRST, SECOND, TURNS)) for name in ("a", "b")]


def of_members(batch: Batch, chosen: list[int]) -> list[list[float]]:
    """Advantages of the rows of some trajectories, by row."""
    bounds = zip(batch.row_offsets[:-1], batch.row_offsets[1:], strict=True)
    rows = [batch.advantages[start:stop][batch.turn_ids[start:stop] >= 0].tolist() for start, stop in bounds]
    return [row for row, owner in zip(rows, batch.row_trajectories, strict=True) if owner in chosen]


@pytest.mark.parametrize("scale", ["none", "group"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_first_attempts_get_to_the_bit_what_they_would_get_without_the_guided_ones(case: str, scale: str) -> None:
    name, options = CASES[case]
    settings = config(name, scale, **options)
    declared = set(settings.channels)
    whole, metrics = assign(groups(), settings, declared=declared)
    alone, metrics_alone = assign([unguided(group) for group in groups()], settings, declared=declared)
    size = len(FIRST) + len(SECOND)
    first = [k for k in range(2 * size) if k % size < len(FIRST)]
    assert of_members(whole, first) == of_members(alone, list(range(2 * len(FIRST))))
    assert {k: v for k, v in metrics.items() if not k.startswith("guided/")} == metrics_alone


@pytest.mark.parametrize("case", sorted(CASES))
def test_guided_attempts_get_what_a_batch_of_them_alone_would_get(case: str) -> None:
    name, options = CASES[case]
    settings = config(name, **options)
    whole, _ = assign(groups(), settings, declared=set(settings.channels))
    only = [by_kind(group)[1] for group in groups()]
    alone, _ = assign(only, settings, declared=set(settings.channels))
    size = len(FIRST) + len(SECOND)
    second = [k for k in range(2 * size) if k % size >= len(FIRST)]
    assert of_members(whole, second) == of_members(alone, list(range(2 * len(SECOND))))


def test_the_baseline_of_each_kind_is_that_of_its_own() -> None:
    batch, metrics = assign([mixed_group("a", [0.0, 0.0, 1.0], [1.0, 1.0])], config(), declared=["process"])
    values = [row[0] for row in of_members(batch, list(range(5)))]
    assert values == pytest.approx([-0.5, -0.5, 1.0, 0.0, 0.0])
    mixed = [-3 / 4, -3 / 4, 1 / 2, 1 / 2, 1 / 2]
    assert values != pytest.approx(mixed), "one baseline for both would praise the help"
    assert metrics["episode/success_rate"] == pytest.approx(1 / 3)
    assert metrics["reward/mean"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_guided_attempt_that_is_alone_teaches_nothing_where_groups_are_compared(case: str) -> None:
    name, options = CASES[case]
    settings = config(name, **options)
    lone = with_process(mixed_group("a", FIRST, [1.0], TURNS[:5]))
    batch, metrics = assign([lone], settings, declared=set(settings.channels))
    assert batch.num_rows == 5
    assert np.isfinite(batch.advantages).all()
    if getattr(registry.lookup("estimator", name), "needs_group", False):
        assert metrics["guided/trained"] == 0.0
        assert set(of_members(batch, [4])[0]) == {0.0}


def test_guided_attempts_are_counted_and_what_was_offered() -> None:
    group = mixed_group("a", [0.0, 0.0, 1.0], [1.0, 0.0])
    followed = tuple(replace(m, provenance={"offered": "look"}) if m.index < 2 else m for m in group.trajectories)
    _, metrics = assign([replace(group, trajectories=followed)], config(), declared=["process"])
    found = {name: value for name, value in metrics.items() if name.startswith("guided/")}
    assert found == {"guided/offered": 2.0, "guided/played": 2.0, "guided/solved": 1.0, "guided/trained": 2.0}
    _, plain = assign([mixed_group("a", FIRST, [])], config(), declared=["process"])
    assert not any(name.startswith("guided/") for name in plain)


def test_a_batch_of_guided_attempts_alone_claims_no_success_of_the_policy() -> None:
    _, metrics = assign([by_kind(mixed_group("a", FIRST, SECOND))[1]], config(), declared=["process"])
    assert "episode/success_rate" not in metrics
    assert "reward/mean" not in metrics
    assert metrics["guided/solved"] == 2.0


# selections


def selected(section: dict[str, Any], group: Group, channels: dict[str, float] | None = None) -> Any:
    chosen = Selector.of(CreditConfig(select=[section], channels=channels or {"outcome": 1.0}))
    return chosen.select(group)


def indices(group: Group | None) -> list[int]:
    return [] if group is None else [m.index for m in group.trajectories]


@pytest.mark.parametrize(
    ("first", "second", "kept", "left_out"),
    [
        ([0.0, 0.0], [0.0, 1.0], [2, 3], {"dynamic_sampling": 2}),
        ([0.0, 1.0], [1.0, 1.0], [0, 1], {"dynamic_sampling": 2}),
        ([0.0, 1.0], [0.0, 1.0], [0, 1, 2, 3], {}),
        ([0.0, 0.0], [1.0, 1.0], [], {"dynamic_sampling": 4}),
    ],
)
def test_dynamic_sampling_asks_whether_each_kind_disagrees_with_itself(
    first: list[float | None], second: list[float | None], kept: list[int], left_out: dict[str, int]
) -> None:
    found = selected({"name": "dynamic_sampling"}, mixed_group("a", first, second))
    assert indices(found.group) == kept
    assert found.left_out == left_out
    if found.group is not None:
        assert {s.trajectory_id for s in found.group.scores} == {f"a/{index}" for index in kept}


def test_right_and_short_are_beside_its_own_kind() -> None:
    section = {"name": "rorecomp", "ratio": 0.5, "length": "turns", "outcome": "outcome", "threshold": 0.5}
    turns = [[2], [2, 2], [2, 2, 2], [2, 2, 2, 2]]
    found = selected(section, mixed_group("a", [1.0, 1.0], [1.0, 1.0], turns)).group
    assert (found.trained, found.later) == ((0, 2), (1, 3))
    assert indices(found) == [0, 1, 2, 3]


def test_agent_rlvr_trains_on_the_goldens_attempts() -> None:
    given, wanted = inputs("agent_rlvr"), expected("agent_rlvr")
    found = []
    for task, (alone, helped) in enumerate(zip(given["first_attempt"], given["guided_attempt"], strict=True)):
        second = [] if helped is None else [float(helped)]
        group = selected({"name": "agent_rlvr"}, mixed_group("a", [float(alone)], second)).group
        found += [f"{'guided' if member.is_guided else 'first'}#{task}" for member in group.trained_now]
    assert found == wanted["train_on"]


def test_agent_rlvr_keeps_failures_in_the_baseline_of_first_attempts() -> None:
    group = selected({"name": "agent_rlvr"}, mixed_group("a", [1.0, 0.0, 0.0, None], [0.0, 1.0])).group
    assert group.trained == (0, 4, 5)
    batch, metrics = assign([group], config(), declared=["process"])
    assert [row[0] for row in of_members(batch, [0, 1, 2])] == pytest.approx([1.0, -1.0, 1.0])
    assert metrics["episode/success_rate"] == pytest.approx(1 / 3)


def test_parts_joined_are_the_group_again() -> None:
    group = mixed_group("a", FIRST, SECOND)
    again = joined_groups(by_kind(group))
    assert again is not None
    assert indices(again) == indices(group)
    assert sorted(s.trajectory_id for s in again.scores) == sorted(s.trajectory_id for s in group.scores)
    assert (again.trained, again.later) == (None, ())
    assert joined_groups([]) is None


def test_a_group_that_nobody_was_guided_in_is_the_very_same() -> None:
    group = mixed_group("a", FIRST, [])
    assert by_kind(group)[0] is group
    lonely = replace(group, trajectories=(guided(trajectory("a", 4, [2])),), scores=())
    assert by_kind(lonely)[0] is lonely
