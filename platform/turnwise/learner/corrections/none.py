"""No correction: an objective's ratio is taken against the sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class NoCorrection:
    """Weighs nothing."""

    needs_proximal = False

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] ones."""
        import torch

        return torch.ones_like(log_ratio)
