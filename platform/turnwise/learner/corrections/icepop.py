"""IcePop: a token's weight inside a band, nothing outside it. It is the token level of `mis`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner.corrections.mis import Mis, MisConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class IcePopConfig:
    """Options of `icepop`."""

    low: float = key(0.5, "w below this is rejected", at_least=0)
    high: float = key(2.0, "w above this is rejected", above=0)


class IcePop:
    """w where low <= w <= high, else 0, token by token."""

    Config = IcePopConfig
    needs_proximal = True

    def __init__(self, config: IcePopConfig) -> None:
        """UserError for a band without 1."""
        self._mis = Mis(MisConfig(low=config.low, high=config.high, level="token"))

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] factors of the loss."""
        return self._mis.weights(log_ratio, trajectories, turns)
