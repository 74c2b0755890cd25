"""Decoupled PPO: a trust region around the proximal policy, a weight for the way from there to the sampler.

With staleness, clipping against the sampler would hold the policy near weights of several updates ago (AReaL, arXiv
2505.24298).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.config.schema import key
from turnwise.learner.corrections.importance import LEVELS, importance
from turnwise.learner.objectives.ppo import Ppo, PpoConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DecoupledPpoConfig(PpoConfig):
    """Options of `decoupled_ppo`."""

    cap: float = key(5.0, "largest behaviour weight pi_proximal / pi_sampler", above=0)
    action: str = key("mask", "beyond the cap: mask drops the token, clamp holds its weight", one_of=("mask", "clamp"))
    level: str = key("token", "what has one weight, of longer levels the geometric mean", one_of=LEVELS)


class DecoupledPpo(Ppo):
    """b * max(-A rho, -A clip(rho)) with rho = pi_new / pi_proximal and b = pi_proximal / pi_sampler, without gradient.

    The proximal policy is the weights that the update begins with; the learner computes its log-probabilities in one
    more pass. A masked token stays in the denominator.
    """

    Config = DecoupledPpoConfig
    takes_correction = False

    def __init__(self, config: DecoupledPpoConfig) -> None:
        """UserError as for `ppo`."""
        super().__init__(config)
        self.correction = BehaviourWeight(config)


class BehaviourWeight:
    """b of each token; 0 or the cap beyond the cap. A `Correction`."""

    needs_proximal = True

    def __init__(self, config: DecoupledPpoConfig) -> None:
        """Keep the options."""
        self._config = config

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] factors of the loss."""
        import torch

        weights = importance(log_ratio, trajectories, turns, self._config.level, "geometric")
        if self._config.action == "clamp":
            return weights.clamp(max=self._config.cap)
        return torch.where(weights <= self._config.cap, weights, 0.0)
