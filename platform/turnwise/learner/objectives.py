"""Policy objectives (algorithms.md 3.10). Called by the learner, once a micro-batch.

The ratio is taken against the sampler's log-probabilities, so staleness and the engine's own rounding are part of it.
Denominators are those of the whole minibatch: splitting it into micro-batches changes nothing but rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnwise.config.schema import key
from turnwise.errors import UserError
from turnwise.learner import ActionTokens, ObjectiveLoss

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before `exp`."""

AGGREGATES = ("token_mean", "seq_mean_token_sum", "seq_mean_token_mean")


@dataclass
class PpoConfig:
    """Options of `ppo`."""

    clip_low: float = key(0.2, "the ratio is held above 1 - clip_low", at_least=0, at_most=1)
    clip_high: float = key(0.2, "the ratio is held below 1 + clip_high", at_least=0)
    dual_clip: float = key(3.0, "at a negative advantage A the loss is at most -A times this; 0: no limit", at_least=0)
    aggregate: str = key("token_mean", "how tokens are averaged; a seq is a whole trajectory", one_of=AGGREGATES)
    entropy: float = key(0.0, "coefficient of the entropy bonus")


class Ppo:
    """The clipped surrogate of PPO (arXiv 1707.06347) with the dual clip (arXiv 1912.09729).

    With rho = exp(lp_new - lp_sampler):  max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)), for A < 0 at most
    -A dual_clip. Clip-higher (DAPO) is clip_high > clip_low.
    """

    Config = PpoConfig

    def __init__(self, config: PpoConfig) -> None:
        """UserError for a dual clip that would cut into the ordinary one."""
        if 0.0 < config.dual_clip <= 1.0:
            remedy = "3.0 is the default, 0 turns it off"
            raise UserError("learner.objective.dual_clip", config.dual_clip, "must be greater than 1", remedy)
        self.config, self.needs_entropy = config, config.entropy != 0.0

    def token_weights(self, trajectories: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return [n] each token's weight; trajectories without a trained token do not count."""
        return token_weights(trajectories, self.config.aggregate)

    def loss(self, tokens: ActionTokens) -> ObjectiveLoss:
        """Return the weighted sum over tokens, and which of them the clip holds back."""
        losses, is_clipped = self.token_losses(tokens.logprobs - tokens.sampler, tokens.advantages)
        total = (losses * tokens.weights).sum()
        if self.needs_entropy:
            total = total - self.config.entropy * (tokens.entropies * tokens.weights).sum()
        return ObjectiveLoss(loss=total, per_token={"clip_fraction": is_clipped.to(losses.dtype)})

    def token_losses(self, log_ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """Return [n] losses, and [n] whether a clip is active (no gradient flows)."""
        ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        clipped = ratio.clamp(1.0 - self.config.clip_low, 1.0 + self.config.clip_high)
        plain, bounded = -advantages * ratio, -advantages * clipped
        losses = torch.maximum(plain, bounded)
        if self.config.dual_clip:
            losses = torch.where(advantages < 0, torch.minimum(losses, -advantages * self.config.dual_clip), losses)
        return losses, (losses != plain).detach()


def token_weights(trajectories: NDArray[np.int32], aggregate: str) -> NDArray[np.float32]:
    """Return [n] the weight of each token in the loss, given [n] its trajectory.

    token_mean: 1 / n. seq_mean_token_sum: 1 / trajectories. seq_mean_token_mean: 1 / (trajectories * its tokens).
    """
    _, index, counts = np.unique(trajectories, return_inverse=True, return_counts=True)
    if aggregate == "token_mean":
        weights = np.full(len(trajectories), 1.0 / max(1, len(trajectories)))
    elif aggregate == "seq_mean_token_sum":
        weights = np.full(len(trajectories), 1.0 / max(1, len(counts)))
    else:
        weights = 1.0 / (len(counts) * counts[index])
    return weights.astype(np.float32)
