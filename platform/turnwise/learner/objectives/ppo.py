"""PPO's clipped surrogate, a ratio a token. Clip-higher (DAPO) and Dr.GRPO's constant length are options of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner import ActionTokens
from turnwise.learner.objectives.base import ObjectiveConfig, TokenObjective, check_dual_clip
from turnwise.learner.objectives.ratio import clipped_surrogate, ratio

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class PpoConfig(ObjectiveConfig):
    """Options of `ppo`."""

    clip_low: float = key(0.2, "the ratio is held above 1 - clip_low", at_least=0, at_most=1)
    clip_high: float = key(0.2, "the ratio is held below 1 + clip_high", at_least=0)
    dual_clip: float = key(3.0, "at a negative advantage A the loss is at most -A times this; 0: no limit", at_least=0)


class Ppo(TokenObjective):
    """The clipped surrogate of PPO (arXiv 1707.06347) with the dual clip (arXiv 1912.09729).

    With rho = exp(lp_new - lp_base):  max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)), for A < 0 at most
    -A dual_clip. Clip-higher (DAPO, arXiv 2503.14476) is clip_high > clip_low; Dr.GRPO's loss (arXiv 2503.20783) is the
    aggregate seq_mean_token_sum_norm.
    """

    Config = PpoConfig

    def __init__(self, config: PpoConfig) -> None:
        """UserError for a dual clip that would cut into the ordinary one."""
        super().__init__(config)
        check_dual_clip(config.dual_clip)
        self.config = config

    def losses(self, tokens: ActionTokens) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return [n] losses, and which of them the clip holds back."""
        losses, is_clipped = self.token_losses(tokens.logprobs - tokens.base, tokens.advantages)
        return losses, {"clip_fraction": is_clipped.to(losses.dtype)}

    def token_losses(self, log_ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """Return [n] losses, and [n] whether a clip is active (no gradient flows)."""
        config = self.config
        return clipped_surrogate(ratio(log_ratio), advantages, config.clip_low, config.clip_high, config.dual_clip)
