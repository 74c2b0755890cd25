"""GSPO: one importance ratio a trajectory, the geometric mean of its tokens' ratios (arXiv 2507.18071)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner import ActionTokens
from turnwise.learner.objectives.base import ObjectiveConfig, TokenObjective, aggregate_key
from turnwise.learner.objectives.ratio import clipped_surrogate, ratio, shared_log_ratio

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_SEQUENCE_RATIO = 10.0
"""The logarithm of a trajectory's ratio is clamped to this before `exp`."""


@dataclass
class GspoConfig(ObjectiveConfig):
    """Options of `gspo`."""

    aggregate: str = aggregate_key("seq_mean_token_mean")
    clip_low: float = key(3e-4, "a trajectory's ratio is held above 1 - clip_low", at_least=0, at_most=1)
    clip_high: float = key(4e-4, "a trajectory's ratio is held below 1 + clip_high", at_least=0)


class Gspo(TokenObjective):
    """s_i = exp(mean_t (lp_new - lp_base)) over all contexts of trajectory i; max(-A s, -A clip(s)) for each token.

    The token form of the paper (section 4.3): a token's gradient is that of its own log-probability, so turns of one
    trajectory may have different advantages.
    """

    Config = GspoConfig
    is_coupled = True

    def __init__(self, config: GspoConfig) -> None:
        """Keep the options."""
        super().__init__(config)
        self.config = config

    def losses(self, tokens: ActionTokens) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return [n] losses; the tokens are whole trajectories."""
        log_ratio = shared_log_ratio(tokens, tokens.trajectories, "geometric")
        ratios = ratio(log_ratio, MAX_LOG_SEQUENCE_RATIO)
        losses, is_clipped = clipped_surrogate(ratios, tokens.advantages, self.config.clip_low, self.config.clip_high)
        return losses, {"clip_fraction": is_clipped.to(losses.dtype), "ratio": ratios.detach()}
