"""Channels, fusions, estimator and selections of `credit` that cannot work together. Nothing here looks at the world.

Called by `checks`. Channels are known by name only: whether a scorer gives one is seen when it scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from turnwise.config.plugins import build_plugin, channels_in, named_channels
from turnwise.config.schema import RunConfig
from turnwise.credit import Selection, SelectionSettings
from turnwise.credit.rewards import ANY_CHANNEL
from turnwise.errors import UserError


def check_credit(config: RunConfig, estimator: type) -> None:
    """Refuse what cannot work; `estimator` is the class that `credit.estimator` names."""
    _check_channels(config.credit.channels)
    _check_channel_options(config, getattr(estimator, "channel_options", ()))
    made = _check_fusions(config)
    _check_value_options(config, getattr(estimator, "value_options", ()), made)
    _check_selections(config, made)


def _check_channels(channels: Mapping[str, float]) -> None:
    if not channels:
        raise UserError("credit.channels", "{}", "no reward channel is used", "use {outcome: 1.0}")
    for name in ("", ANY_CHANNEL):
        if name in channels:
            raise UserError("credit.channels", repr(name), "is no name of a channel", "name one that a scorer gives")
    if not any(channels.values()):
        raise UserError("credit.channels", dict(channels), "every weight is 0", "give one channel a weight")


def _check_channel_options(config: RunConfig, options: Sequence[str]) -> None:
    """Refuse an option of the estimator that names a channel (or channels) which has no weight."""
    channels, estimator = config.credit.channels, config.credit.estimator
    for option in options:
        for channel in channels_in(estimator[option]) if estimator[option] != "" else [""]:
            if not channels.get(channel):
                problem = (
                    f"the estimator {estimator['name']} needs this channel, and credit.channels gives it no weight"
                )
                remedy = f"add {channel}: 1.0 to credit.channels, and a scorer that gives it to rewards"
                raise UserError(f"credit.estimator.{option}", channel, problem, remedy)


def _check_value_options(config: RunConfig, options: Sequence[str], made: Collection[str]) -> None:
    """Refuse an option of the estimator that names a channel of values whose weight is not 0, or which is not read."""
    channels, estimator = config.credit.channels, config.credit.estimator
    for option in options:
        field, channel = f"credit.estimator.{option}", estimator[option]
        if channels.get(channel) != 0.0:
            problem = f"the estimator {estimator['name']} reads values there, which are no reward: its weight must be 0"
            remedy = f"add {channel}: 0.0 to credit.channels, and a scorer that gives it to rewards"
            raise UserError(field, channel, problem, remedy)
        if channel in made:
            problem = "a fusion makes this channel, and values are read as a scorer gave them"
            raise UserError(field, channel, problem, "name a channel that a scorer gives")


def _check_fusions(config: RunConfig) -> set[str]:
    """Return the channels that fusions make.

    UserError for a fusion whose options do not go together, that compares the members of a group of one, or whose
    channels are unknown, weigh what they must not, are made twice, or are made only later.
    """
    fusions = [_built_fusion(section, f"credit.fuse.{i}") for i, section in enumerate(config.credit.fuse)]
    made = [named_channels(fusion, "made_options") for fusion in fusions]
    for index, fusion in enumerate(fusions):
        key, name = f"credit.fuse.{index}", config.credit.fuse[index]["name"]
        if getattr(fusion, "needs_group", False) and config.rollout.group_size < 2:
            problem = f"{key}: the fusion {name} compares the episodes of a group, so one alone teaches nothing"
            raise UserError("rollout.group_size", config.rollout.group_size, problem, "use at least 2")
        _check_fused_channels(fusion, f"{key}: the fusion {name}", config.credit.channels)
        _check_order(fusion, f"{key}.name", name, [channel for later in made[index + 1 :] for channel in later])
    return {channel for channels in made for channel in channels}


def _built_fusion(section: dict[str, Any], key: str) -> Any:
    found, options = build_plugin("fuse", section, key)
    try:
        return found(options)
    except UserError as error:
        raise UserError(f"{key}.{error.field}", error.value, error.problem, error.remedy) from None


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


def _check_order(fusion: Any, field: str, name: str, made_later: Collection[str]) -> None:
    """Refuse a fusion that reads or makes a channel which a later one makes: what it does would be overwritten."""
    for channel in (*named_channels(fusion, "channel_options"), *named_channels(fusion, "made_options")):
        if channel in made_later:
            problem = f"it names the channel {channel}, which a later fusion makes"
            raise UserError(field, name, problem, "let the one that makes it come first, and no other make it")


def _check_selections(config: RunConfig, made: Collection[str]) -> None:
    """Let each selection refuse options that contradict other keys."""
    for index, section in enumerate(config.credit.select):
        field = f"credit.select.{index}"
        found, options = build_plugin("select", section, field)
        settings = SelectionSettings(
            channels=config.credit.channels,
            made=frozenset(made),
            group_size=config.rollout.group_size,
            min_group=config.credit.estimator.get("min_group", 1),
            max_staleness=config.rollout.max_staleness,
            is_last=index == len(config.credit.select) - 1,
        )
        selection: Selection = found(options)
        selection.check(field, settings)
