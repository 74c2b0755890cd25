"""Values that make no sense, alone or together, although each has the right type. Nothing here looks at the world."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.config.keys import KeySpec, shown
from turnwise.config.plugins import build_plugin, named_channels
from turnwise.config.schema import Bounds, CreditConfig, RunConfig
from turnwise.credit import Selection, SelectionSettings
from turnwise.errors import UserError


def check_bounds(values: Mapping[str, Any], known: Mapping[str, KeySpec]) -> None:
    """Refuse the first value (or item of a list) outside its bounds."""
    for key, spec in known.items():
        value = values.get(key)
        for item in value if isinstance(value, list) else [value]:
            problem = _problem(item, spec.bounds)
            if problem is not None:
                raise UserError(key, shown(key, item), *problem)


def check_together(config: RunConfig, estimator: type) -> None:
    """Refuse combinations that cannot work; `estimator` is the class that `credit.estimator` names."""
    _check_groups(config, bool(getattr(estimator, "needs_group", False)))
    _check_channels(config.credit.channels)
    _check_selections(config)
    _check_channel_options(config, getattr(estimator, "channel_options", ()))
    _check_value_options(config, getattr(estimator, "value_options", ()))
    _check_learner(config)
    if config.eval.tasks and not config.eval.modes:
        raise UserError("eval.modes", "[]", "no mode of evaluation", "use [sampled, greedy] or set eval.tasks=0")
    if len(set(config.eval.modes)) < len(config.eval.modes):
        raise UserError("eval.modes", config.eval.modes, "names a mode twice", "name each once")
    if not config.rewards:
        raise UserError("rewards", "[]", "no scorer, so nothing would be learnt", "use [{name: events}]")


def _check_groups(config: RunConfig, needs_group: bool) -> None:
    rollout, estimator = config.rollout, config.credit.estimator["name"]
    if needs_group and rollout.group_size < 2:
        problem = f"the estimator {estimator} compares the episodes of a group, so one alone teaches nothing"
        raise UserError(
            "rollout.group_size", rollout.group_size, problem, "use at least 2, or another credit.estimator"
        )
    wanted = config.credit.estimator.get("min_group", 0)
    if wanted > rollout.group_size:
        problem = f"the estimator {estimator} leaves out smaller groups, and rollout.group_size={rollout.group_size}"
        remedy = f"use at most {rollout.group_size}, or a larger rollout.group_size"
        raise UserError("credit.estimator.min_group", wanted, problem, remedy)
    if rollout.min_group_size > rollout.group_size:
        problem = f"exceeds rollout.group_size={rollout.group_size}, so every group would be dropped"
        raise UserError("rollout.min_group_size", rollout.min_group_size, problem, f"use at most {rollout.group_size}")
    if 0 < rollout.curriculum < rollout.groups_per_update:
        problem = f"a batch of rollout.groups_per_update={rollout.groups_per_update} groups would hold a task twice"
        raise UserError(
            "rollout.curriculum", rollout.curriculum, problem, f"use at least {rollout.groups_per_update}, or 0"
        )


def _check_channels(channels: Mapping[str, float]) -> None:
    if not channels:
        raise UserError("credit.channels", "{}", "no reward channel is used", "use {outcome: 1.0}")
    for channel, weight in channels.items():
        if not math.isfinite(weight):
            raise UserError(f"credit.channels.{channel}", weight, "is not finite", "use a number")
    if not any(channels.values()):
        raise UserError("credit.channels", dict(channels), "every weight is 0", "give one channel a weight")


def _check_selections(config: RunConfig) -> None:
    """Let each selection refuse options that contradict other keys."""
    for index, section in enumerate(config.credit.select):
        field = f"credit.select.{index}"
        found, options = build_plugin("select", section, field)
        settings = SelectionSettings(
            channels=config.credit.channels,
            group_size=config.rollout.group_size,
            max_staleness=config.rollout.max_staleness,
            is_last=index == len(config.credit.select) - 1,
        )
        selection: Selection = found(options)
        selection.check(field, settings)


def _check_channel_options(config: RunConfig, options: Sequence[str]) -> None:
    """Refuse an option of the estimator that names a channel (or channels) which has no weight."""
    channels, estimator = config.credit.channels, config.credit.estimator
    for option in options:
        for channel in _texts(estimator[option]):
            if not channels.get(channel):
                problem = (
                    f"the estimator {estimator['name']} needs this channel, and credit.channels gives it no weight"
                )
                remedy = f"add {channel}: 1.0 to credit.channels, and a scorer that gives it to rewards"
                raise UserError(f"credit.estimator.{option}", channel, problem, remedy)


def _texts(value: Any) -> list[str]:
    """Return every text in a value, names of a mapping included, in order."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else [value]


def _check_value_options(config: RunConfig, options: Sequence[str]) -> None:
    """Refuse an option of the estimator that names a channel of values whose weight is not 0, or which is not read."""
    channels, estimator = config.credit.channels, config.credit.estimator
    for option in options:
        if channels.get(estimator[option]) != 0.0:
            problem = f"the estimator {estimator['name']} reads values there, which are no reward: its weight must be 0"
            remedy = f"add {estimator[option]}: 0.0 to credit.channels, and a scorer that gives it to rewards"
            raise UserError(f"credit.estimator.{option}", estimator[option], problem, remedy)


def check_fusions(credit: CreditConfig) -> None:
    """Refuse a fusion whose options do not go together, or whose channels are unknown or weigh what they must not."""
    for index, section in enumerate(credit.fuse):
        key = f"credit.fuse.{index}"
        found, options = build_plugin("fuse", section, key)
        try:
            fusion = found(options)
        except UserError as error:
            raise UserError(f"{key}.{error.field}", error.value, error.problem, error.remedy) from None
        _check_fused_channels(fusion, f"{key}: the fusion {section['name']}", credit.channels)


def _check_fused_channels(fusion: Any, which: str, weights: Mapping[str, float]) -> None:
    made, weighted, folded = (
        set(named_channels(fusion, name)) for name in ("made_options", "weighted_options", "folded_options")
    )
    for channel in sorted(set(named_channels(fusion, "channel_options")) | made | weighted | folded):
        weight = weights.get(channel)
        field, wanted = f"credit.channels.{channel}", float(channel in made | weighted)
        if weight is None:
            remedy = f"add {channel}: {wanted}" + ("" if channel in made else " and a scorer that gives it to rewards")
            raise UserError(field, "null", f"{which} needs this channel", remedy)
        if channel in weighted and weight == 0.0:
            raise UserError(
                field, weight, f"{which} changes a weight that is 0", "give it a weight, or remove the fusion"
            )
        if channel in folded and weight != 0.0:
            raise UserError(field, weight, f"{which} folds it into another channel, so it counts twice", "use 0.0")


def _check_learner(config: RunConfig) -> None:
    learner, episodes = config.learner, config.rollout.groups_per_update * config.rollout.group_size
    if learner.minibatches > episodes:
        problem = f"more optimizer steps than the {episodes} episodes of an update"
        raise UserError("learner.minibatches", learner.minibatches, problem, f"use at most {episodes}")
    if len(learner.betas) != 2:
        raise UserError("learner.betas", learner.betas, "AdamW takes two", "use [0.9, 0.95]")
    if learner.warmup_updates > learner.updates:
        problem = f"exceeds learner.updates={learner.updates}"
        raise UserError("learner.warmup_updates", learner.warmup_updates, problem, f"use at most {learner.updates}")


def _problem(value: Any, bounds: Bounds) -> tuple[str, str] | None:
    """Return (problem, remedy) of a value outside its bounds; null has none."""
    if bounds.one_of is not None and value is not None and value not in bounds.one_of:
        return "is not a choice", f"one of: {', '.join(bounds.one_of)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value):
        return "is not a finite number", "use a finite number"
    for is_outside, problem, limit in (
        (bounds.at_least is not None and value < bounds.at_least, "is too small", f"at least {bounds.at_least}"),
        (bounds.above is not None and value <= bounds.above, "is too small", f"a number above {bounds.above}"),
        (bounds.at_most is not None and value > bounds.at_most, "is too large", f"at most {bounds.at_most}"),
        (bounds.below is not None and value >= bounds.below, "is too large", f"a number below {bounds.below}"),
    ):
        if is_outside:
            return problem, f"use {limit}"
    return None
