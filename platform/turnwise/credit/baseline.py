"""Group statistics that estimators share: codes of groups, and means over a group's other members.

Called by the estimators. Does not know what the values mean: returns, scores, anything with one entry a trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array, Mask

SINGLETON = ("zero", "raw")
"""What a trajectory without a usable baseline gets: nothing (it is not trained on), or its raw return."""


def group_codes(group: Sequence[str]) -> NDArray[np.int64]:
    """Return [N] one small number a group, equal where the entries are equal."""
    return np.unique(np.asarray(group, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)


def group_sum(values: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return, for every member, the sum and the number of its group's known values, itself included; [N, ...] each."""
    sums = np.zeros((int(codes.max(initial=-1)) + 1, *values.shape[1:]))
    counts = np.zeros_like(sums)
    np.add.at(sums, codes, np.where(known, values, 0.0))
    np.add.at(counts, codes, known.astype(np.float64))
    return sums[codes], counts[codes]


def mean_of_others(values: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return the mean over the other members' known values, and where there is at least one; [N, ...] each.

    The mean is 0 where there is none.
    """
    sums, counts = group_sum(values, known, codes)
    others = counts - known
    exists = others > 0.5
    return np.where(exists, (sums - np.where(known, values, 0.0)) / np.maximum(others, 1.0), 0.0), exists


def mean_of_other_groups(values: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return the mean over the known values of all other groups, and where there is at least one; [N, ...] each.

    The mean is 0 where there is none.
    """
    everything = np.zeros_like(codes)
    sums, counts = group_sum(values, known, codes)
    all_sums, all_counts = group_sum(values, known, everything)
    others = all_counts - counts
    exists = others > 0.5
    return np.where(exists, (all_sums - sums) / np.maximum(others, 1.0), 0.0), exists


def centred(values: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return each value minus its group's mean, itself included, and where there is another to compare; [N, ...] each.

    One that is alone stays as it is.
    """
    sums, counts = group_sum(values, known, codes)
    has_others = counts > 1.5
    return values - np.where(has_others, sums / np.maximum(counts, 1.0), 0.0), has_others


def normalised(values: Array, known: Mask, codes: NDArray[np.int64], eps: float) -> tuple[Array, Mask]:
    """Return the centred values over (the group's unbiased standard deviation + eps); one that is alone has std 1."""
    deviations, has_others = centred(values, known, codes)
    squares, counts = group_sum(deviations**2, known, codes)
    std = np.where(has_others, np.sqrt(squares / np.maximum(counts - 1.0, 1.0)), 1.0)
    return deviations / (std + eps), has_others
