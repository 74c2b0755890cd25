"""Fusions: changes of the rewards before the estimator, applied in configured order; each stands in `fusions/`.

Order matters: what gates goes first, then what shapes or combines, then what makes turn rewards (algorithms.md 5):

    gate, constrain -> tiers, preference, contrast, ensemble, decorrelate, trust, reliability
                    -> only_positive, renorm, progress, clip, delta, overlong -> anneal

A gate behind a shaping compares shaped values with its threshold. Normalise once: what is bounded by a fusion
(`preference`) should not go on to an estimator that divides by the standard deviation, which stretches it again.

The rules that every fusion keeps: the arrays given are left as they are; what was masked stays masked, and a value is
masked if any part of it is, even where the other parts would decide it (a closed gate makes any reward 0). Otherwise
what is masked would depend on how good the actions were. Statistics of a group or batch are over what is known.

What a fusion returns is the reward that is trained for. Where it depends on other trajectories (a group's best, its
mean, a batch's correlations) it is a different one at every batch, and no estimator can promise the gradient of a
fixed one.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.credit import Fusion, TurnRewards


def fuse(rewards: TurnRewards, fusions: Sequence[Fusion]) -> TurnRewards:
    """Return the rewards after all fusions; an empty list changes nothing."""
    for fusion in fusions:
        rewards = fusion.fuse(rewards)
    return rewards
