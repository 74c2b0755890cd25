"""Truncated importance sampling: min(w, cap)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner.corrections.importance import LEVELS, WHOLE, importance
from turnwise.learner.objectives.ratio import FORMS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TisConfig:
    """Options of `tis`."""

    cap: float = key(2.0, "largest weight", above=0)
    level: str = key("token", "what has one weight: token, turn or sequence (a whole trajectory)", one_of=LEVELS)
    form: str = key(
        "geometric", "how ratios of tokens make one: product or geometric mean", only_if=("level", WHOLE), one_of=FORMS
    )
    normalise: bool = key(False, "divide by the mean weight of the batch's trained tokens")


class Tis:
    """w = min(exp(lp_proximal - lp_sampler), cap).

    A product over a trajectory is noisy, and unbiased but for the cap.
    """

    Config = TisConfig
    needs_proximal = True

    def __init__(self, config: TisConfig) -> None:
        """Keep the options."""
        self.config = config

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] factors of the loss."""
        weights = importance(log_ratio, trajectories, turns, self.config.level, self.config.form)
        weights = weights.clamp(max=self.config.cap)
        return weights / weights.mean() if self.config.normalise else weights
