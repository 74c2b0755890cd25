"""The learner: the one place where weights change. Batches in, metrics and weights out.

`Learner` (policy.py) is the plain object, `LearnerActor` (actor.py) the Ray shell around it. Objectives (`objectives/`)
are registered under the kind `objective`, corrections of the mismatch of sampler and learner (`corrections/`) under
`correction`. Importing this package loads no torch.
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
    """Trained tokens of one micro-batch, or of the whole minibatch where the objective couples tokens; n of them."""

    logprobs: Tensor  # [n] under the policy that is being trained, with gradient
    held: Tensor  # [n] the same without gradient: what an objective holds constant is made of these
    entropies: Tensor  # [n] of its distribution at each token; with gradient if the objective needs it
    sampler: Tensor  # [n] log-probabilities under the policy that sampled them
    base: Tensor  # [n] log-probabilities that the ratio is taken against: the sampler's, or the proximal policy's
    advantages: Tensor  # [n]
    weights: Tensor  # [n] share of each token in the loss; the micro-batches' losses add up to the minibatch's
    trajectories: Tensor  # [n] int64, equal for tokens of one trajectory and of no other in the minibatch
    turns: Tensor  # [n] int64, equal for tokens of one turn and of no other in the minibatch
    correction: Tensor | None = None  # [n] factor of each token's loss, after the clip; None: 1
    reference: Tensor | None = None  # [n] log-probabilities under the frozen reference, where there is one
    progress: float = 0.0  # share of the run's updates that are done; 1 at the last


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveLoss:
    """What an objective returns for its tokens."""

    loss: Tensor  # [] to be minimised; a weighted sum, so that micro-batches add up
    per_token: Mapping[str, Tensor]  # name -> [n] without gradient; the mean over all tokens becomes a metric


class Correction(Protocol):
    """Weighs tokens by how the learner's policy differs from the sampler's. Built with an instance of its `Config`.

    The difference is that of the proximal policy, the weights that an update begins with: log-ratios are known before
    its first step and stay what they are until it ends.
    """

    needs_proximal: bool  # False: it weighs nothing, and no proximal log-probabilities are computed for it

    def weights(self, log_ratio: Tensor, trajectories: Tensor, turns: Tensor) -> Tensor:
        """Return [n] factors of the loss, given log pi_proximal - log pi_sampler of an update's n trained tokens."""


class Objective(Protocol):
    """A policy objective. Its class has a `Config` dataclass; it is built with an instance of it."""

    needs_entropy: bool  # True: `entropies` must carry a gradient
    is_coupled: bool  # True: a token's loss depends on other tokens' log-probabilities, so it must see all at once
    takes_correction: bool  # False: it accounts for the sampler by itself, and `learner.correction` must be none
    correction: Correction | None  # one of its own, that makes the ratio one against the proximal policy

    def token_weights(self, trajectories: NDArray[np.int64], turns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return each token's weight in the loss, given trajectory and turn of every trained token of a minibatch."""

    def loss(self, tokens: ActionTokens) -> ObjectiveLoss:
        """Return the loss of the tokens given."""
