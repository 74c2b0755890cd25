"""Importance ratios, of a token or of a whole turn or trajectory, and the clipped surrogate made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnwise.learner import ActionTokens
from turnwise.learner.objectives.aggregate import group_mean, group_sum

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before `exp`."""

FORMS = ("product", "geometric")


def ratio(log_ratio: Tensor, limit: float = MAX_LOG_RATIO) -> Tensor:
    """Return exp(log_ratio), of the input's shape, with log_ratio held within +-limit."""
    return log_ratio.clamp(-limit, limit).exp()


def group_log_ratio(log_ratio: Tensor, groups: Tensor, form: str) -> Tensor:
    """Return [n] the log-ratio of each token's group: the sum over its tokens (product) or their mean (geometric)."""
    return group_sum(log_ratio, groups) if form == "product" else group_mean(log_ratio, groups)


def shared_log_ratio(tokens: ActionTokens, groups: Tensor, form: str) -> Tensor:
    """Return [n] the log-ratio of each token's group, whose gradient reaches the token's own log-probability only.

    log r_g + lp_t - sg[lp_t] (GSPO-token, arXiv 2507.18071, section 4.3). The gradient of r_g as a whole would reach
    all tokens of the group alike and so mix the advantages of turns, or weigh a product's tokens by its length.
    """
    return group_log_ratio(tokens.held - tokens.base, groups, form) + (tokens.logprobs - tokens.held)


def clipped_surrogate(
    ratios: Tensor, advantages: Tensor, clip_low: float, clip_high: float, dual_clip: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return [n] losses, and [n] whether a clip is active (no gradient flows).

    max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)) (arXiv 1707.06347); with a dual clip at most -A dual_clip for
    A < 0 (arXiv 1912.09729).
    """
    import torch

    clipped = ratios.clamp(1.0 - clip_low, 1.0 + clip_high)
    plain, bounded = -advantages * ratios, -advantages * clipped
    losses = torch.maximum(plain, bounded)
    if dual_clip:
        losses = torch.where(advantages < 0, torch.minimum(losses, -advantages * dual_clip), losses)
    return losses, (losses != plain).detach()
