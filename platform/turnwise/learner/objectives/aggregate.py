"""How much each token counts: the weights of a minibatch's tokens in its loss.

A weight is a function of the whole minibatch, never of a micro-batch or of a rank's share of it: each of them may sum
its own tokens with the weights given here, and the sums add up to the minibatch's loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

AGGREGATES = ("token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "seq_mean_token_sum_norm", "turn_mean")


def token_weights(
    trajectories: NDArray[np.int64], turns: NDArray[np.int64], aggregate: str, length: int = 1
) -> NDArray[np.float32]:
    """Return [n] the weight of each token in the loss, given [n] its trajectory and turn.

    token_mean: 1 / n. seq_mean_token_sum: 1 / trajectories. seq_mean_token_mean: 1 / (trajectories * its tokens).
    seq_mean_token_sum_norm: 1 / (trajectories * length), the constant length of Dr.GRPO (arXiv 2503.20783).
    turn_mean: 1 / (turns * tokens of its turn). What has no trained token does not count.
    """
    if aggregate == "token_mean":
        weights = np.full(len(trajectories), 1.0 / max(1, len(trajectories)))
    elif aggregate == "turn_mean":
        weights = _mean_of_means(turns)
    elif aggregate == "seq_mean_token_mean":
        weights = _mean_of_means(trajectories)
    else:
        constant = length if aggregate == "seq_mean_token_sum_norm" else 1
        weights = np.full(len(trajectories), 1.0 / max(1, len(np.unique(trajectories)) * constant))
    return weights.astype(np.float32)


def weighted_sum(losses: Tensor, weights: Tensor, correction: Tensor | None) -> Tensor:
    """Return [] the sum of [n] losses, each times its correction and its weight.

    A token that the correction rejects (factor 0) stays in every denominator: the others do not gain by its absence.
    """
    return ((losses if correction is None else losses * correction) * weights).sum()


def group_sum(values: Tensor, groups: Tensor) -> Tensor:
    """Return [n] the sum over each token's group; `groups` [n] are indices from 0."""
    import torch

    size = int(groups.max()) + 1 if len(groups) else 0
    return torch.zeros(size, dtype=values.dtype, device=values.device).index_add(0, groups, values)[groups]


def group_mean(values: Tensor, groups: Tensor) -> Tensor:
    """Return [n] the mean over each token's group."""
    import torch

    return group_sum(values, groups) / group_sum(torch.ones_like(values), groups)


def _mean_of_means(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / (len(counts) * counts[index])
