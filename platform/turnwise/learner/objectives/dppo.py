"""DPPO: a trust region on probabilities rather than on ratios (arXiv 2602.04879, its binary total variation)."""

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
class DppoConfig(ObjectiveConfig):
    """Options of `dppo`."""

    mask_low: float = key(0.2, "at A < 0 a token is dropped if its probability fell by more", at_least=0, at_most=1)
    mask_high: float = key(0.2, "at A > 0 a token is dropped if its probability rose by more", at_least=0, at_most=1)
    penalty: float = key(1e-3, "coefficient of the squared log-ratio, of dropped tokens too", at_least=0)


class Dppo(TokenObjective):
    """-A rho keep + penalty (lp_new - lp_sampler)^2 with rho = exp(lp_new - lp_sampler), the sampler's by definition.

    keep is 0 where pi_new - pi_sampler > mask_high at A > 0, or < -mask_low at A < 0: the probability has moved far
    enough in the advantage's direction. A rare token's ratio may be large while its probability hardly moves. A dropped
    token stays in the denominator.
    """

    Config = DppoConfig
    takes_correction = False

    def __init__(self, config: DppoConfig) -> None:
        """Keep the options."""
        super().__init__(config)
        self.config = config

    def losses(self, tokens: ActionTokens) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return [n] losses, and which tokens are dropped."""
        import torch

        moved = tokens.held.exp() - tokens.sampler.exp()
        is_far = torch.where(tokens.advantages > 0, moved > self.config.mask_high, moved < -self.config.mask_low)
        log_ratio = tokens.logprobs - tokens.sampler
        is_dropped = is_far.to(log_ratio.dtype)
        losses = -tokens.advantages * ratio(log_ratio) * (1.0 - is_dropped)
        return losses + self.config.penalty * log_ratio.square(), {"clip_fraction": is_dropped}
