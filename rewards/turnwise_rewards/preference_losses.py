"""Losses that train a reward model from outcomes, their gradients in two passes (algorithms.md 1.1, 1.2, 4.19).

A loss compares the scores Q of whole trajectories, and a trajectory may be many rows of tokens: more than one backward
pass can hold. So each loss is given with its derivative by every score, and whoever trains the model goes twice:

1. a forward pass without gradients over all rows: q_t, then Q (`implicit.trajectory_scores`), then the loss, once,
   over the *whole* batch (pairs do not stay inside one worker's rows);
2. a forward pass with gradients, micro-batch by micro-batch: each row adds c_i * beta * scale_i * sum_t q_t, with c_i
   the `coefficients` entry of its trajectory and scale_i = 1 (or 1 / K_i for the mean over turns).

The gradients add up to that of the loss exactly, if both passes see the same weights and the model has no dropout. The
released iStar code differentiates by a detached copy of q instead, so its model never moves. `implicit.token_gradient`
is what step 2 must amount to. A scorer that hosts a reward model will call these; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnwise.credit import Array, Mask


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceLoss:
    """A loss over N scores, with its gradient."""

    terms: Array  # [num_terms] loss of each pair or sample; the loss is their mean
    coefficients: Array  # [N] dL/dscore of each trajectory; 0 where it is in no term

    @property
    def loss(self) -> float | None:
        """The mean of the terms; None where there is none, and then there is nothing to train on."""
        return float(self.terms.mean()) if self.terms.size else None


def winner_loser_pairs(
    outcomes: ArrayLike, group: Sequence[str], known: ArrayLike | None = None, threshold: float = 0.0
) -> NDArray[np.int64]:
    """Return [P, 2] all pairs (i, j) of a group with outcome_i > threshold >= outcome_j and both known."""
    values, mask = _known_values("outcomes", outcomes, known)
    names = _group(group, len(values))
    wins = values > threshold
    is_pair = (names[:, None] == names[None, :]) & (wins & mask)[:, None] & (~wins & mask)[None, :]
    return np.argwhere(is_pair).astype(np.int64)


def trajectory_dpo(
    scores: ArrayLike,
    outcomes: ArrayLike,
    group: Sequence[str],
    known: ArrayLike | None = None,
    threshold: float = 0.0,
) -> PreferenceLoss:
    """Return iStar's loss: the mean over all winner-loser pairs of -log sigma(Q_i - Q_j) (arXiv 2509.19199).

    `scores`, `outcomes` and `known` are [N]; a trajectory that is not known is in no pair. A group without both
    outcomes has no pairs; without any pair there is no loss. With P pairs,
    c_i = -sum_j sigma(Q_j - Q_i) / P for winners, c_j = +sum_i sigma(Q_j - Q_i) / P for losers.
    """
    values, mask = _known_values("scores", scores, known)
    winners, losers = winner_loser_pairs(outcomes, group, mask, threshold).T
    margins = values[winners] - values[losers]
    slopes = _sigmoid(-margins) / max(1, len(margins))
    coefficients = np.zeros(len(values))
    np.add.at(coefficients, winners, -slopes)
    np.add.at(coefficients, losers, slopes)
    return PreferenceLoss(terms=_minus_log_sigmoid(margins), coefficients=coefficients)


def cross_entropy(scores: ArrayLike, labels: ArrayLike, known: ArrayLike | None = None) -> PreferenceLoss:
    """Return PRIME's `ce`: the mean over samples of the cross-entropy of sigma(Q_i) and label_i (arXiv 2502.01456).

    `labels` are [N], 1 for right and 0 for wrong, or a share between them. c_i = (sigma(Q_i) - label_i) / n.
    """
    values, mask = _known_values("scores", scores, known)
    wanted = _labels(labels, mask)
    terms = wanted * _minus_log_sigmoid(values) + (1.0 - wanted) * _minus_log_sigmoid(-values)
    slopes = np.where(mask, _sigmoid(values) - wanted, 0.0)
    return PreferenceLoss(terms=terms[mask], coefficients=slopes / max(1, int(mask.sum())))


def detached_dpo(
    scores: ArrayLike, labels: ArrayLike, group: Sequence[str], known: ArrayLike | None = None
) -> PreferenceLoss:
    """Return PRIME's `dpo`: the mean over samples of -log sigma(+-(Q_i - Qbar_i)), + for right, - for wrong ones.

    Qbar_i is the mean score of the group's samples with the other label, a constant to the gradient; 0, the score of
    the reference itself, where there is none (as released). With s = +-1: c_i = -s_i sigma(-s_i (Q_i - Qbar_i)) / n.
    Since Qbar is held still, this is not the derivative of the loss's value by the scores.
    """
    values, mask = _known_values("scores", scores, known)
    wanted = _labels(labels, mask)
    if not np.isin(wanted[mask], (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1: a share between them has no opposite")
    names = _group(group, len(values))
    opposes = (names[:, None] == names[None, :]) & (wanted[:, None] != wanted[None, :]) & mask[None, :]
    opponents = np.where(opposes, values[None, :], 0.0).sum(axis=1) / np.maximum(opposes.sum(axis=1), 1)
    sign = 2.0 * wanted - 1.0
    margins = sign * (values - opponents)
    slopes = np.where(mask, -sign * _sigmoid(-margins), 0.0)
    return PreferenceLoss(terms=_minus_log_sigmoid(margins)[mask], coefficients=slopes / max(1, int(mask.sum())))


def contrastive(positive: ArrayLike, negative: ArrayLike, valid: ArrayLike | None = None) -> PreferenceLoss:
    """Return Cooper's loss: the mean over valid pairs of -log sigma(s+ - s-) (algorithms.md 4.19).

    [N] scores of a verified right answer and of the same answer rewritten to be wrong; `valid` is False where no such
    rewriting was found. `coefficients` are dL/ds+; dL/ds- is their negative. The released code divides by n + 1e-6.
    """
    better, mask = _known_values("positive scores", positive, valid)
    worse, _ = _known_values("negative scores", negative, valid)
    if better.shape != worse.shape:
        raise ValueError(f"{len(better)} positive and {len(worse)} negative scores: they come in pairs")
    margins = better - worse
    slopes = np.where(mask, -_sigmoid(-margins), 0.0) / max(1, int(mask.sum()))
    return PreferenceLoss(terms=_minus_log_sigmoid(margins)[mask], coefficients=slopes)


def _minus_log_sigmoid(x: Array) -> Array:
    return np.logaddexp(0.0, -x)


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))


def _known_values(name: str, values: ArrayLike, known: ArrayLike | None) -> tuple[Array, Mask]:
    """Return both as [N] arrays, values 0 where they are not known; ValueError for other shapes or a known NaN."""
    array = np.asarray(values, dtype=np.float64)
    mask = np.ones(array.shape, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    if array.ndim != 1 or array.shape != mask.shape:
        raise ValueError(f"{name} {array.shape} and their mask {mask.shape}: both must be [N]")
    if not np.isfinite(array[mask]).all():
        raise ValueError(f"{name} are not finite at {np.flatnonzero(mask & ~np.isfinite(array)).tolist()}")
    return np.where(mask, array, 0.0), mask


def _labels(labels: ArrayLike, mask: Mask) -> Array:
    wanted, _ = _known_values("labels", labels, mask)
    if ((wanted < 0.0) | (wanted > 1.0)).any():
        raise ValueError(f"labels {wanted.tolist()}: each must be in 0 .. 1")
    return wanted


def _group(group: Sequence[str], size: int) -> NDArray[np.str_]:
    if len(group) != size:
        raise ValueError(f"{len(group)} groups for {size} trajectories: one entry a trajectory")
    return np.asarray(list(group), dtype=np.str_)
