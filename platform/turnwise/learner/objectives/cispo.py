"""CISPO: REINFORCE under a clipped importance weight; a clipped token keeps its gradient (arXiv 2506.13585)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner import ActionTokens
from turnwise.learner.objectives.base import ObjectiveConfig, TokenObjective
from turnwise.learner.objectives.ratio import ratio

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class CispoConfig(ObjectiveConfig):
    """Options of `cispo`."""

    clip_low: float = key(1.0, "the weight is held above 1 - clip_low; 1: no lower bound", at_least=0, at_most=1)
    clip_high: float = key(4.0, "the weight is held below 1 + clip_high", at_least=0)


class Cispo(TokenObjective):
    """-sg[clip(rho, 1 - clip_low, 1 + clip_high)] A lp_new with rho = exp(lp_new - lp_base).

    Only the gradient means something: the value of the loss is no measure of progress.
    """

    Config = CispoConfig

    def __init__(self, config: CispoConfig) -> None:
        """Keep the options."""
        super().__init__(config)
        self.config = config

    def losses(self, tokens: ActionTokens) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return [n] losses, and which weights the clip changed."""
        ratios = ratio(tokens.held - tokens.base)
        clipped = ratios.clamp(1.0 - self.config.clip_low, 1.0 + self.config.clip_high)
        return -clipped * tokens.advantages * tokens.logprobs, {"clip_fraction": (clipped != ratios).to(ratios.dtype)}
