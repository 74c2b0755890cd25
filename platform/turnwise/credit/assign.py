"""Credit assignment: scored groups in, the learner's batch out.

The controller calls `assign` once an update; a rescoring tool may call it on stored groups. Everything else in this
folder is a step of it: rewards -> fuse -> estimate -> scale -> spread -> pack; what is selected was selected before.
Pure: equal groups give equal bytes, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, Protocol

import numpy as np

from turnwise.config.plugins import build_plugin, named_channels
from turnwise.credit import Estimator, Fusion, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.fuse import fuse
from turnwise.credit.metrics import credit_metrics, guided_metrics, success_rate
from turnwise.credit.pack import pack
from turnwise.credit.rewards import ordered, turn_rewards
from turnwise.credit.scale import scaled
from turnwise.credit.split import joined, rewards_of, rows_by_kind, unguided
from turnwise.credit.spread import to_tokens
from turnwise.errors import UserError
from turnwise.records import Batch, Group


class CreditOptions(Protocol):
    """The part of the configuration that `assign` reads (`CreditConfig`)."""

    channels: dict[str, float]
    fuse: list[Any]
    estimator: dict[str, Any]
    scale: str | None


def assign(
    groups: Sequence[Group],
    config: CreditOptions,
    *,
    declared: Collection[str] = (),
    success: tuple[str, float] = ("outcome", 0.5),
    update: int = 0,
) -> tuple[Batch, dict[str, float]]:
    """Return the packed batch, sorted by group id and index, and the metrics of its rewards and credit.

    `declared` names channels that may be absent from a batch without being a mistake (those that a fusion makes may be,
    too); `success` is the channel and the threshold of `episode/success_rate`; `update` counts the updates done before.
    Episodes that a selection took out of the loss (`Group.trained`) are in the statistics and not in the batch. Guided
    attempts are compared with each other only; rewards, success and credit are reported of the others.
    ValueError without any trajectory; UserError for a scored channel that a fusion makes; for wrong scores see
    `turn_rewards`.
    """
    groups = ordered(groups)
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    if not trajectories:
        raise ValueError("no trajectories to assign credit to")
    fusions: list[Fusion] = [_built("fuse", spec, f"credit.fuse.{i}") for i, spec in enumerate(config.fuse)]
    made = {channel for fusion in fusions for channel in named_channels(fusion, "made_options")}
    estimator: Estimator = _built("estimator", config.estimator, "credit.estimator")
    _check_made(groups, made)
    scored = replace(turn_rewards(groups, config.channels, {*declared, *made}), update=update)
    is_trained = np.asarray([group.is_trained(member) for group in groups for member in group.trajectories])
    parts, metrics = [], dict[str, float]()
    for rows in rows_by_kind(trajectories):
        rewards = fuse(rewards_of(scored, rows), fusions)
        advantages = _estimated(rewards, estimator, config.scale, is_trained[rows])
        parts.append((rows, advantages))
        if not trajectories[rows[0]].is_guided:
            metrics = credit_metrics(rewards, advantages)
    advantages = joined(parts, scored.num_tokens.shape)
    credit = to_tokens(advantages, trajectories)
    batch = pack(list(compress(trajectories, is_trained)), list(compress(credit, is_trained)))
    shown = success_rate([unguided(group) for group in groups], *success)
    return batch, {**metrics, **shown, **guided_metrics(groups, advantages, *success)}


def _estimated(rewards: TurnRewards, estimator: Estimator, scale: str | None, is_trained: Mask) -> TurnAdvantages:
    """Return the advantages of one kind of attempts, those of episodes that are not trained on left out."""
    advantages = without(estimator.estimate(rewards), is_trained)
    if scale != "group":
        return advantages
    weight = max((abs(weight) for weight in rewards.weights.values()), default=1.0)
    return scaled(advantages, rewards.group, weight)


def without(advantages: TurnAdvantages, is_trained: Sequence[bool] | Mask) -> TurnAdvantages:
    """Return the advantages without those of episodes that a selection left to the statistics; `is_trained` is [N]."""
    mask = advantages.mask & np.asarray(is_trained, dtype=bool)[:, None]
    return replace(advantages, values=np.where(mask, advantages.values, 0.0), mask=mask)


def _check_made(groups: Sequence[Group], made: Collection[str]) -> None:
    for score in (score for group in groups for score in group.scores if not score.is_masked):
        if score.channel in made:
            problem = f"a fusion makes this channel, and {score.source or 'a scorer'} gives it to {score.trajectory_id}"
            raise UserError("credit.fuse", score.channel, problem, "let the fusion make another one")


def _built(kind: str, section: dict[str, Any], field: str) -> Any:
    found, options = build_plugin(kind, section, field)
    return found(options)
