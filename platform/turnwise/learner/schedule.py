"""The learning rate as a pure function of progress: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import Protocol


class ScheduleOptions(Protocol):
    """The part of `LearnerConfig` that is read here."""

    updates: int
    lr: float
    schedule: str
    min_lr_fraction: float
    warmup_updates: int


def learning_rate(config: ScheduleOptions, update: int) -> float:
    """Return the rate of update number `update` (from 0).

    Linear up to the peak over `warmup_updates`, then constant, or a cosine that ends at `min_lr_fraction` of the peak.
    """
    if update < config.warmup_updates:
        return config.lr * (update + 1) / (config.warmup_updates + 1)
    if config.schedule == "constant":
        return config.lr
    done = (update - config.warmup_updates) / max(1, config.updates - 1 - config.warmup_updates)
    return cosine(config.lr, config.min_lr_fraction, done)


def cosine(peak: float, last_fraction: float, done: float) -> float:
    """Return the rate at a share `done` of the way from `peak` to `peak * last_fraction`."""
    share = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))
    return peak * (last_fraction + (1.0 - last_fraction) * share)
