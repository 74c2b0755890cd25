"""Dealing and splitting a batch: nothing lost, nothing twice, nothing that depends on anything but the seed."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_pieces import make_batch

from turnwise.learner.microbatch import deal, split, trained_lengths

quick = settings(max_examples=40, deadline=None, derandomize=True)


@quick
@given(seed=st.integers(0, 999), limit=st.sampled_from([1, 7, 30, 64, 10_000]), count=st.integers(1, 8))
def test_every_trained_token_is_in_exactly_one_micro_batch(seed, limit, count):
    batch = make_batch(seed)
    seen = []
    for rows in deal(batch, count, (seed,)):
        for micro in split(batch, rows, limit) if len(rows) else ():
            seen.append(micro.tokens)
            assert micro.ids.size <= max(limit, micro.ids.shape[1])
            assert (micro.targets == batch.ids[micro.tokens]).all()
            # the position before each target holds the token before it
            assert (micro.ids.reshape(-1)[micro.select] == batch.ids[micro.tokens - 1]).all()
    assert sorted(np.concatenate(seen).tolist()) == np.flatnonzero(batch.loss_mask).tolist()


def test_minibatches_are_whole_trajectories_of_nearly_equal_number():
    batch = make_batch(3, num_trajectories=7)
    parts = deal(batch, 3, (0, 0))
    members = [set(batch.row_trajectories[rows].tolist()) for rows in parts]
    assert sorted(len(part) for part in members) == [2, 2, 3]
    assert set.union(*members) == set(range(7))
    assert sum(len(rows) for rows in parts) == batch.num_rows


def test_the_seed_alone_decides_who_is_dealt_where():
    batch = make_batch(0, num_trajectories=12)
    same, again, other = (deal(batch, 3, seed) for seed in ((0, 4), (0, 4), (0, 5)))
    assert [rows.tolist() for rows in same] == [rows.tolist() for rows in again]
    assert [rows.tolist() for rows in same] != [rows.tolist() for rows in other]


def test_a_row_without_a_trained_token_is_left_out_and_one_is_cut_behind_its_last():
    batch = make_batch(1)
    mask = batch.loss_mask.copy()
    mask[batch.row_offsets[1] : batch.row_offsets[2]] = False
    last = np.flatnonzero(mask[: batch.row_offsets[1]])[-1]
    mask[last] = False
    batch = dataclasses.replace(batch, loss_mask=mask)
    lengths = trained_lengths(batch)
    assert lengths[1] == 0
    assert lengths[0] == np.flatnonzero(mask[: batch.row_offsets[1]])[-1] + 1
    assert 1 not in np.concatenate(deal(batch, 2, (0,)))
    (micro,) = split(batch, np.asarray([0, 1]), 1000)
    assert micro.ids.shape == (1, lengths[0] - 1)


def test_a_batch_without_trained_tokens_deals_nothing():
    batch = make_batch(1)
    batch = dataclasses.replace(batch, loss_mask=np.zeros_like(batch.loss_mask))
    assert [len(rows) for rows in deal(batch, 2, (0,))] == [0, 0]


@pytest.mark.parametrize("limit", [20, 40, 80])
def test_rows_of_like_length_share_a_micro_batch(limit):
    batch = make_batch(5, num_trajectories=20)
    lengths = trained_lengths(batch)
    widths = [micro.ids.shape[1] for micro in split(batch, np.arange(batch.num_rows), limit)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == lengths.max() - 1


def test_rows_of_equal_inputs_are_computed_once_and_every_token_keeps_its_own_place():
    batch = make_batch(seed=3, num_trajectories=4, split_first=False)
    twice = dataclasses.replace(
        batch,
        **{
            name: np.concatenate([getattr(batch, name)] * 2)
            for name in ("ids", "positions", "turn_ids", "loss_mask", "logprobs", "advantages", "versions")
        },
        row_offsets=np.concatenate([batch.row_offsets, batch.row_offsets[1:] + batch.row_offsets[-1]]),
        row_trajectories=np.concatenate([batch.row_trajectories, batch.row_trajectories + batch.num_rows]),
    )
    once = list(split(batch, np.arange(batch.num_rows), 64))
    both = list(split(twice, np.arange(twice.num_rows), 64))
    assert [micro.ids.tolist() for micro in both] == [micro.ids.tolist() for micro in once]
    assert sum(len(micro.tokens) for micro in both) == 2 * sum(len(micro.tokens) for micro in once)
    for micro in both:
        inputs = micro.ids.reshape(-1)[micro.select]
        assert (inputs == twice.ids[micro.tokens - 1]).all()
        assert (micro.targets == twice.ids[micro.tokens]).all()


def test_rows_that_differ_in_their_last_target_only_are_computed_once():
    batch = make_batch(seed=3, num_trajectories=2, split_first=False)
    size = int(batch.row_offsets[1])
    ids, mask = np.tile(batch.ids[:size], 2), np.tile(batch.loss_mask[:size], 2)
    last = np.flatnonzero(mask[:size])[-1]
    ids[size + last] += 1
    packed = dataclasses.replace(
        batch, ids=ids, loss_mask=mask, row_offsets=np.asarray([0, size, 2 * size], dtype=np.int32)
    )
    (micro,) = split(packed, np.arange(2), 1024)
    assert len(micro.ids) == 1
    assert sorted(micro.tokens) == np.flatnonzero(mask).tolist()
    assert {int(micro.targets[np.flatnonzero(micro.tokens == place)[0]]) for place in (last, size + last)} == {
        int(ids[last]),
        int(ids[last]) + 1,
    }
