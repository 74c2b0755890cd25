import dataclasses

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import bits, make_failed, make_group, make_turn, scores, trajectories

from turnwise.store.arrow import scores_to_table, table_to_scores, table_to_trajectories, trajectories_to_table
from turnwise.store.schema import SCORES, TRAJECTORIES, with_header

QUICK = settings(max_examples=60, deadline=None)


@QUICK
@given(st.lists(trajectories, max_size=3))
def test_trajectories_come_back_bit_for_bit(before):
    after = table_to_trajectories(trajectories_to_table(before))
    assert list(map(bits, after)) == list(map(bits, before))


@QUICK
@given(st.lists(scores, max_size=4))
def test_scores_come_back_bit_for_bit(before):
    after = table_to_scores(scores_to_table(before))
    assert list(map(bits, after)) == list(map(bits, before))


def test_a_masked_score_is_missing_and_a_nan_score_is_not():
    group = make_group()
    masked = dataclasses.replace(group.scores[0], value=None)
    spoilt = dataclasses.replace(group.scores[0], value=float("nan"))
    assert scores_to_table([masked, spoilt]).column("value").null_count == 1


def test_tables_have_the_published_schemas():
    group = make_group()
    assert trajectories_to_table(group.trajectories).schema == TRAJECTORIES
    assert scores_to_table(group.scores).schema == SCORES
    assert trajectories_to_table([]).schema == TRAJECTORIES


def test_a_slice_of_a_table_holds_the_turns_of_its_own_rows():
    alike = make_group(size=3, num_turns=2).trajectories
    unlike = [dataclasses.replace(each, turns=(make_turn(tokens=each.index),) * each.index) for each in alike]
    members = (alike[0], *unlike[1:], make_failed())
    table = trajectories_to_table(members).slice(1, 3)
    assert list(map(bits, table_to_trajectories(table))) == list(map(bits, members[1:]))


def test_text_that_utf8_cannot_hold_does_not_stop_the_store():
    odd = dataclasses.replace(make_turn(), observation="a\udc80b")
    trajectory = dataclasses.replace(make_group().trajectories[0], turns=(odd,))
    (back,) = table_to_trajectories(trajectories_to_table([trajectory]))
    assert back.turns[0].observation == "a\\udc80b"


def test_numpy_values_in_provenance_become_plain_json():
    trajectory = dataclasses.replace(make_group().trajectories[0], provenance={"seed": np.int64(3), "w": np.ones(2)})
    (back,) = table_to_trajectories(trajectories_to_table([trajectory]))
    assert back.provenance == {"seed": 3, "w": [1.0, 1.0]}


def test_the_header_is_in_front_and_ignored_by_the_reader():
    group = make_group()
    table = with_header(trajectories_to_table(group.trajectories), "update-000003", 3, False)
    assert table.column_names[:3] == ["tag", "update", "is_eval"]
    assert table.column("update").to_pylist() == [3, 3]
    assert isinstance(table, pa.Table)
    assert list(map(bits, table_to_trajectories(table))) == list(map(bits, group.trajectories))
