"""Packing: trajectories with token advantages become the learner's `Batch`.

A row is one context: a trajectory is split where a turn starts its context anew. Tokens are copied as the sampler
produced them, never decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from turnwise.errors import NumericsError
from turnwise.records import Batch, BoolArray, FloatArray, Trajectory, Turn

TokenCredit = list[list[tuple[FloatArray, BoolArray]]]
"""By trajectory and turn: advantage and loss mask of the action tokens."""


@dataclass(slots=True)
class _Columns:
    """Pieces of the batch's arrays, in order."""

    ids: list[np.ndarray] = field(default_factory=list)
    turn_ids: list[np.ndarray] = field(default_factory=list)
    loss_mask: list[np.ndarray] = field(default_factory=list)
    logprobs: list[np.ndarray] = field(default_factory=list)
    advantages: list[np.ndarray] = field(default_factory=list)
    versions: list[np.ndarray] = field(default_factory=list)
    row_lengths: list[int] = field(default_factory=list)
    row_trajectories: list[int] = field(default_factory=list)

    def begin_row(self, trajectory: int) -> None:
        self.row_lengths.append(0)
        self.row_trajectories.append(trajectory)

    def add(
        self, ids: np.ndarray, turn_id: int, mask: object, logprobs: object, advantages: object, versions: object
    ) -> None:
        size = len(ids)
        self.ids.append(ids)
        self.turn_ids.append(np.full(size, turn_id))
        self.loss_mask.append(np.broadcast_to(np.asarray(mask), size))
        self.logprobs.append(np.broadcast_to(np.asarray(logprobs), size))
        self.advantages.append(np.broadcast_to(np.asarray(advantages), size))
        self.versions.append(np.broadcast_to(np.asarray(versions), size))
        self.row_lengths[-1] += size


def pack(trajectories: Sequence[Trajectory], credit: TokenCredit) -> Batch:
    """Return the batch; rows in the order of `trajectories`, and of their contexts.

    ValueError for a row that begins with an action, or a turn whose arrays differ in length: the rollout's mistakes.
    NumericsError for a log-probability that is trained on and not finite. Both name trajectory and turn.
    """
    columns = _Columns()
    for i, trajectory in enumerate(trajectories):
        for k, turn in enumerate(trajectory.turns):
            _check(trajectory, k, turn)
            if k == 0 or turn.starts_context:
                columns.begin_row(i)
            columns.add(turn.observation_ids, -1, False, 0.0, 0.0, -1)
            advantages, mask = credit[i][k]
            if not np.isfinite(turn.logprobs[mask]).all():
                place = f"trajectory {trajectory.trajectory_id} turn {k}"
                raise NumericsError(f"{place}: the sampler gave a log-probability that is not finite")
            columns.add(turn.action_ids, k, mask, turn.logprobs, advantages, turn.versions)
    return _finish(columns)


def _finish(columns: _Columns) -> Batch:
    lengths = np.asarray(columns.row_lengths, dtype=np.int32)
    return Batch(
        ids=_join(columns.ids, np.int32),
        positions=_join([np.arange(length) for length in columns.row_lengths], np.int32),
        turn_ids=_join(columns.turn_ids, np.int32),
        loss_mask=_join(columns.loss_mask, np.bool_),
        logprobs=_join(columns.logprobs, np.float32),
        advantages=_join(columns.advantages, np.float32),
        versions=_join(columns.versions, np.int32),
        row_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        row_trajectories=np.asarray(columns.row_trajectories, dtype=np.int32),
    )


def _join(pieces: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(pieces).astype(dtype) if pieces else np.zeros(0, dtype=dtype)


def _check(trajectory: Trajectory, k: int, turn: Turn) -> None:
    name = f"trajectory {trajectory.trajectory_id} turn {k}"
    if not len(turn.action_ids) == len(turn.logprobs) == len(turn.versions):
        sizes = f"{len(turn.action_ids)}, {len(turn.logprobs)} and {len(turn.versions)}"
        raise ValueError(f"{name}: action ids, log-probabilities and versions are {sizes}")
    if (k == 0 or turn.starts_context) and not len(turn.observation_ids):
        raise ValueError(f"{name}: a context begins with an action, which nothing predicts")
