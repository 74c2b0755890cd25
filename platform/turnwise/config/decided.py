"""What the configuration leaves open and its parts decide: the size of advantages, which channels judge single turns,
how many demonstrations are recorded.

`load` writes it into the configuration, so that the run folder's `config.yaml` says what was decided.
"""

from __future__ import annotations

from typing import Any

from turnwise.config.plugins import build_plugin
from turnwise.config.schema import RunConfig
from turnwise.records import ORACLE
from turnwise.registry import lookup

IMMEDIATE = "immediate"
"""The option of estimators that names the channels that judge single turns; null: those of `judged_channels`."""

DEMONSTRATIONS = 2048
"""Episodes that a warm start records where there are no files of demonstrations."""


def decided(config: RunConfig) -> dict[str, Any]:
    """Return the values of the keys that the user left open, by dotted key."""
    found: dict[str, Any] = {}
    section = config.credit.estimator
    if config.credit.scale is None:
        found["credit.scale"] = getattr(lookup("estimator", section["name"]), "scale", "none")
    if section.get(IMMEDIATE, ()) is None:
        found[f"credit.estimator.{IMMEDIATE}"] = judged_channels(config)
    if config.sft.demonstrations is None:
        found["sft.demonstrations"] = 0 if config.sft.files else DEMONSTRATIONS
    return found


def judged_channels(config: RunConfig) -> list[str]:
    """Return the channels with a weight whose turn scores judge their turn alone, as their scorers declare."""
    found = [ORACLE] if config.rollout.oracle else []
    for section in config.rewards:
        kind, options = build_plugin("scorer", section)
        found += kind.judged_channels(options) if hasattr(kind, "judged_channels") else ()
    return [channel for channel in dict.fromkeys(found) if config.credit.channels.get(channel)]
