"""Fusions: changes of the rewards before the estimator, applied in configured order. The core has none yet."""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.credit import Fusion, TurnRewards


def fuse(rewards: TurnRewards, fusions: Sequence[Fusion]) -> TurnRewards:
    """Return the rewards after all fusions; an empty list changes nothing."""
    for fusion in fusions:
        rewards = fusion.fuse(rewards)
    return rewards
