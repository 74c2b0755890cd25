"""No correction: an objective's ratio is taken against the sampler."""

from __future__ import annotations

import torch
from torch import Tensor


class NoCorrection:
    """Weighs nothing."""

    needs_proximal = False

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] ones."""
        return torch.ones_like(log_ratio)
