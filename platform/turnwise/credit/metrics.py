"""What is worth knowing of one batch's rewards and credit, under the names that people know.

Called by `assign`. A statistic of nothing is left out, never NaN or 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from turnwise.credit import Array, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import group_codes, group_sum
from turnwise.credit.returns import trajectory_scores, weighted_scores
from turnwise.records import Group

NUM_TURNS = 8
"""Turns whose advantages are shown one by one."""


def credit_metrics(rewards: TurnRewards, advantages: TurnAdvantages) -> dict[str, float]:
    """Return rewards, advantages, lengths, and how much of the batch teaches nothing."""
    scores, known = weighted_scores(rewards)
    num_turns = np.asarray(rewards.num_turns, dtype=np.float64)
    return {
        **_mean_and_std("reward", scores[known]),
        **_channel_means(rewards),
        **_mean_and_std("advantage", advantages.values[advantages.mask]),
        **_by_turn(advantages),
        **_group_counts(rewards),
        "credit/masked_share": 1.0 - float(advantages.mask.sum()) / max(1.0, float(num_turns.sum())),
        "response_length/mean": float(rewards.num_tokens.sum(axis=1).mean()),
        "num_turns/mean": float(num_turns.mean()),
    }


def success_rate(groups: Sequence[Group], channel: str, threshold: float) -> dict[str, float]:
    """Return the share of trajectories whose score on `channel` exceeds `threshold`; nothing if none has one."""
    known = [total for total in _totals(groups, channel).values() if total is not None]
    return {"episode/success_rate": float(np.mean([total > threshold for total in known]))} if known else {}


def guided_metrics(
    groups: Sequence[Group], advantages: TurnAdvantages, channel: str, threshold: float
) -> dict[str, float]:
    """Count what guidance was offered, the attempts played with it, those solved, and those in the loss.

    `advantages` are of all trajectories, in the order of the groups. Nothing without any guidance.
    """
    members = [member for group in groups for member in group.trajectories]
    num_offered, rows = sum(m.is_followed for m in members), [i for i, m in enumerate(members) if m.is_guided]
    if not num_offered and not rows:
        return {}
    totals = _totals(groups, channel)
    scores = [totals.get(members[row].trajectory_id) for row in rows]
    return {
        "guided/offered": float(num_offered),
        "guided/played": float(len(rows)),
        "guided/solved": float(sum(score is not None and score > threshold for score in scores)),
        "guided/trained": float(advantages.mask[rows].any(axis=1).sum()) if rows else 0.0,
    }


def _totals(groups: Sequence[Group], channel: str) -> dict[str, float | None]:
    """Return by trajectory the sum of its scores on a channel; None where one of them is masked."""
    totals: dict[str, float | None] = {}
    for score in (score for group in groups for score in group.scores if score.channel == channel):
        former = totals.get(score.trajectory_id, 0.0)
        totals[score.trajectory_id] = None if score.value is None or former is None else former + score.value
    return totals


def _mean_and_std(name: str, values: Array) -> dict[str, float]:
    return {f"{name}/mean": float(values.mean()), f"{name}/std": float(values.std())} if len(values) else {}


def _by_turn(advantages: TurnAdvantages) -> dict[str, float]:
    """Return the mean advantage of each of the first turns, of the trajectories that train on it."""
    first = range(min(NUM_TURNS, advantages.values.shape[1]))
    chosen = {k: advantages.values[advantages.mask[:, k], k] for k in first}
    return {f"advantage/turn_{k}": float(values.mean()) for k, values in chosen.items() if len(values)}


def _channel_means(rewards: TurnRewards) -> dict[str, float]:
    means: dict[str, float] = {}
    for channel in rewards.weights:
        scores, known = trajectory_scores(rewards, channel)
        if known.any():
            means[f"reward/{channel}/mean"] = float(scores[known].mean())
    return means


def _group_counts(rewards: TurnRewards) -> Mapping[str, float]:
    """Count groups with at most one known score, and groups whose known scores are all equal."""
    scores, known = weighted_scores(rewards)
    codes = group_codes(rewards.group)
    first = np.unique(codes, return_index=True)[1]
    sums, counts = group_sum(scores, known, codes)
    deviations = np.where(known, np.abs(scores - sums / np.maximum(counts, 1.0)), 0.0)
    spread = np.zeros(len(first))
    np.maximum.at(spread, codes, deviations)
    is_single = counts[first] < 1.5
    return {
        "credit/zero_variance_groups": float((~is_single & (spread < 1e-9)).sum()),
        "credit/singleton_groups": float(is_single.sum()),
    }
