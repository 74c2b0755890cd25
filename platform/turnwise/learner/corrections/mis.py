"""Masked importance sampling: what differs too much is dropped whole, the rest keeps its weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner.corrections.importance import LEVELS, WHOLE, check_band, importance
from turnwise.learner.objectives.ratio import FORMS, ratio

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class MisConfig:
    """Options of `mis`."""

    low: float = key(0.5, "w below this is rejected", at_least=0)
    high: float = key(2.0, "w above this is rejected", above=0)
    level: str = key("turn", "what is kept or dropped as one: token, turn or sequence", one_of=LEVELS)
    form: str = key(
        "geometric", "how ratios of tokens make one: product or geometric mean", only_if=("level", WHOLE), one_of=FORMS
    )


class Mis:
    """w_t where low <= w <= high at the level, else 0; the weight is the token's own, not truncated.

    The band bounds w itself. (A band on k1 = -log w, as some trainers have it, accepts w in [1/high, 1/low].) At level
    turn one mismatching turn does not cost a long trajectory.
    """

    Config = MisConfig
    needs_proximal = True

    def __init__(self, config: MisConfig) -> None:
        """UserError for a band without 1."""
        check_band(config.low, config.high)
        self.config = config

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] factors of the loss."""
        import torch

        judged = importance(log_ratio, trajectories, turns, self.config.level, self.config.form)
        is_kept = (judged >= self.config.low) & (judged <= self.config.high)
        return torch.where(is_kept, ratio(log_ratio), 0.0)
