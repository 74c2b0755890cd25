"""Dealing a batch into minibatches of whole trajectories, and those into padded micro-batches of rows of like length.

Called by the learner. Rows are cut behind their last trained token: what follows it has no part in any gradient.
Padded, not packed into one long row: for rows of about 130 tokens sorting by length leaves 2 % of padding; packing
needs a block-diagonal attention mask, which took 1.5 (512 tokens) to 3 times (2048) the CPU time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from turnwise.records import Batch, BoolArray, IntArray

Indices = NDArray[np.int64]


class PackedRows(Protocol):
    """Rows laid end to end: a `Batch`, or demonstrations."""

    @property
    def ids(self) -> IntArray:
        """[T] token ids."""

    @property
    def loss_mask(self) -> BoolArray:
        """[T] True for tokens that are trained on; never for a row's first token."""

    @property
    def row_offsets(self) -> IntArray:
        """[num_rows + 1] start of each row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Rows padded on the right to one length."""

    ids: Indices  # [num_families, length] inputs; 0 behind the end, where causal attention keeps it harmless
    select: Indices  # [n] flat positions in `ids` whose next token is trained on
    targets: Indices  # [n] those next tokens
    tokens: Indices  # [n] their places in the packed arrays


def deal(batch: Batch, minibatches: int, seed: tuple[int, ...]) -> list[Indices]:
    """Return the rows of each minibatch: whole trajectories, drawn in an order that `seed` alone decides.

    Minibatches differ by at most one trajectory. Rows without a trained token are left out.
    """
    rows = np.flatnonzero(trained_lengths(batch) > 0)
    trajectories = np.unique(batch.row_trajectories[rows])
    shuffled = np.random.default_rng(seed).permutation(trajectories)
    return [rows[np.isin(batch.row_trajectories[rows], part)] for part in np.array_split(shuffled, minibatches)]


def trained_lengths(packed: PackedRows) -> Indices:
    """Return [num_rows] each row's length up to its last trained token; 0 if it has none."""
    offsets = packed.row_offsets
    trained = np.flatnonzero(packed.loss_mask)
    last = np.searchsorted(trained, offsets[1:]) - 1
    position = np.where(last >= 0, trained[np.maximum(last, 0)] if len(trained) else -1, -1)
    return np.maximum(position - offsets[:-1] + 1, 0).astype(np.int64)


def split(packed: PackedRows, rows: Indices, max_tokens: int) -> Iterator[MicroBatch]:
    """Yield the rows as micro-batches, longest rows first, of at most `max_tokens` padded tokens or one row.

    Rows without a trained token are left out. Rows of equal inputs are computed once, for all of them: where episodes
    or states come again, most rows are equal.
    """
    lengths = trained_lengths(packed)
    rows = rows[lengths[rows] > 0]
    families = alike(packed, rows[np.lexsort((rows, -lengths[rows]))], lengths)
    start = 0
    while start < len(families):
        size = max(1, max_tokens // max(1, int(lengths[families[start][0]]) - 1))
        yield pad(packed, families[start : start + size], lengths)
        start += size


def alike(packed: PackedRows, rows: Indices, lengths: Indices) -> list[list[int]]:
    """Return the rows in families of equal inputs, in the order of each one's first."""
    families: dict[bytes, list[int]] = {}
    for row in rows:
        families.setdefault(_inputs(packed, int(row), int(lengths[row])).tobytes(), []).append(int(row))
    return list(families.values())


def pad(packed: PackedRows, families: Sequence[Sequence[int]], lengths: Indices) -> MicroBatch:
    """Return rows as one micro-batch, a line for each family of rows with equal inputs.

    The last trained token of a row is only a target, so inputs are one shorter.
    """
    width = max(1, max(int(lengths[family[0]]) for family in families) - 1)
    ids = np.zeros((len(families), width), dtype=np.int64)
    select, tokens = [], []
    for place, family in enumerate(families):
        ids[place, : int(lengths[family[0]]) - 1] = _inputs(packed, family[0], int(lengths[family[0]]))
        for row in family:
            start = int(packed.row_offsets[row])
            trained = np.flatnonzero(packed.loss_mask[start : start + int(lengths[row])])
            select.append(place * width + trained - 1)
            tokens.append(start + trained)
    places = np.concatenate(tokens)
    return MicroBatch(
        ids=ids, select=np.concatenate(select), targets=packed.ids[places].astype(np.int64), tokens=places
    )


def _inputs(packed: PackedRows, row: int, length: int) -> IntArray:
    start = int(packed.row_offsets[row])
    return packed.ids[start : start + length - 1]
