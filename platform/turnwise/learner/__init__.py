"""The learner: the one place where weights change. Batches in, metrics and weights out.

`Learner` (policy.py) is the plain object, `LearnerActor` (actor.py) the Ray shell around it. Objectives are registered
under the kind `objective`. Importing this package loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionTokens:
    """The trained tokens of one micro-batch; n of them."""

    logprobs: Tensor  # [n] under the policy that is being trained, with gradient
    entropies: Tensor  # [n] of its distribution at each token; with gradient if the objective needs it
    sampler: Tensor  # [n] log-probabilities under the policy that sampled them
    advantages: Tensor  # [n]
    weights: Tensor  # [n] share of each token in the loss; the micro-batches' losses add up to the minibatch's


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveLoss:
    """What an objective returns for one micro-batch."""

    loss: Tensor  # [] to be minimised; a weighted sum, so that micro-batches add up
    per_token: Mapping[str, Tensor]  # name -> [n] without gradient; the mean over all tokens becomes a metric


class Objective(Protocol):
    """A policy objective. Its class has a `Config` dataclass; it is built with an instance of it."""

    needs_entropy: bool  # True: `entropies` must carry a gradient

    def token_weights(self, trajectories: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return each token's weight in the loss, given the trajectory of every trained token of a whole minibatch."""

    def loss(self, tokens: ActionTokens) -> ObjectiveLoss:
        """Return the loss of one micro-batch."""
