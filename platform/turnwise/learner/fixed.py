"""What an update holds fixed while its weights move: [T] columns of the batch, by the field of `ActionTokens`.

Called by the learner before the first step of an update. Proximal and reference log-probabilities cost a pass over the
batch each, and only where a correction or the KL term asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from turnwise.learner import Correction
from turnwise.learner.microbatch import Indices
from turnwise.records import Batch

Column = NDArray[Any]


def fixed_columns(
    batch: Batch,
    correction: Correction,
    proximal: Callable[[Batch], Column],
    reference: Callable[[Batch], Column] | None,
) -> dict[str, Column]:
    """Return the columns; `proximal` and `reference` compute [T] log-probabilities of the trained tokens."""
    trajectories, turns = token_groups(batch)
    columns: dict[str, Column] = {
        "sampler": batch.logprobs,
        "base": batch.logprobs,
        "advantages": batch.advantages,
        "trajectories": trajectories,
        "turns": turns,
    }
    if correction.needs_proximal:
        columns["base"] = proximal(batch)
        columns["correction"] = _factors(correction, batch.loss_mask, columns)
    if reference is not None:
        columns["reference"] = reference(batch)
    return columns


def token_groups(batch: Batch) -> tuple[Indices, Indices]:
    """Return [T] the trajectory and the turn of every token, a turn's number being its own in the whole batch.

    Numbers are dense from 0; of an observation token the turn's means nothing.
    """
    trajectories = np.repeat(batch.row_trajectories.astype(np.int64), np.diff(batch.row_offsets))
    stride = int(batch.turn_ids.max(initial=0)) + 2
    _, turns = np.unique(trajectories * stride + batch.turn_ids + 1, return_inverse=True)
    return trajectories, turns.astype(np.int64)


def _factors(correction: Correction, trained: NDArray[np.bool_], columns: dict[str, Column]) -> Column:
    """Return [T] the correction's factors, formed over all trained tokens of the batch; 1 for the others."""
    names = ("base", "sampler", "trajectories", "turns")
    base, sampler, trajectories, turns = (torch.from_numpy(columns[name][trained]) for name in names)
    factors = np.ones(len(trained), dtype=np.float32)
    if trained.any():
        factors[trained] = correction.weights(base - sampler, trajectories, turns).numpy()
    return factors
