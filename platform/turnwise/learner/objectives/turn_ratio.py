"""One importance ratio a turn: the unit that is credited is the unit that is clipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner import ActionTokens
from turnwise.learner.objectives.base import ObjectiveConfig, TokenObjective, aggregate_key, check_dual_clip
from turnwise.learner.objectives.ratio import FORMS, clipped_surrogate, ratio, shared_log_ratio

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TurnRatioConfig(ObjectiveConfig):
    """Options of `turn_ratio`."""

    aggregate: str = aggregate_key("turn_mean")
    form: str = key("product", "of the tokens' ratios: their product, or their geometric mean", one_of=FORMS)
    clip_low: float = key(0.2, "a turn's ratio is held above 1 - clip_low", at_least=0, at_most=1)
    clip_high: float = key(0.28, "a turn's ratio is held below 1 + clip_high", at_least=0)
    dual_clip: float = key(3.0, "at a negative advantage A the loss is at most -A times this; 0: no limit", at_least=0)


class TurnRatio(TokenObjective):
    """r_k = exp(sum_t (lp_new - lp_base)) over the tokens of turn k (arXiv 2509.19199), or of their mean (geometric).

    Each token's loss is max(-A r_k, -A clip(r_k)), with the dual clip for A < 0. A geometric mean varies less than a
    product, the less the longer the turn: give it a narrower clip. A token's gradient is that of its own
    log-probability; see `shared_log_ratio`. A turn lies in one context, and so in one micro-batch.
    """

    Config = TurnRatioConfig

    def __init__(self, config: TurnRatioConfig) -> None:
        """UserError for a dual clip that would cut into the ordinary one."""
        super().__init__(config)
        check_dual_clip(config.dual_clip)
        self.config = config

    def losses(self, tokens: ActionTokens) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return [n] losses; the tokens are whole turns."""
        config = self.config
        ratios = ratio(shared_log_ratio(tokens, tokens.turns, config.form))
        losses, is_clipped = clipped_surrogate(
            ratios, tokens.advantages, config.clip_low, config.clip_high, config.dual_clip
        )
        return losses, {"clip_fraction": is_clipped.to(losses.dtype), "ratio": ratios.detach()}
