"""What the objectives share: their common options, and the way from a loss a token to the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.errors import UserError
from turnwise.learner import ActionTokens, Correction, ObjectiveLoss
from turnwise.learner.objectives.aggregate import AGGREGATES, token_weights, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


def aggregate_key(default: str) -> Any:
    """Return the option `aggregate` with a default of the objective's own."""
    return key(default, "how tokens are averaged; a seq is a whole trajectory", one_of=AGGREGATES)


def check_dual_clip(dual_clip: float) -> None:
    """Refuse a dual clip that would cut into the ordinary one."""
    if 0.0 < dual_clip <= 1.0:
        remedy = "3.0 is the default, 0 turns it off"
        raise UserError("learner.objective.dual_clip", dual_clip, "must be greater than 1", remedy)


@dataclass
class ObjectiveConfig:
    """Options of every objective."""

    aggregate: str = aggregate_key("token_mean")
    length: int = key(
        1024,
        "the constant that a trajectory's sum is divided by",
        only_if=("aggregate", "seq_mean_token_sum_norm"),
        at_least=1,
    )
    entropy: float = key(0.0, "coefficient of the entropy bonus")
    entropy_last: float | None = key(
        None, "its value at the last update, reached linearly; none: it stays", only_if=("entropy", True)
    )


class TokenObjective(ABC):
    """An objective that is a weighted sum of one loss a token. A subclass says what that loss is."""

    is_coupled: ClassVar[bool] = False
    takes_correction: ClassVar[bool] = True

    def __init__(self, config: ObjectiveConfig) -> None:
        """Keep the common options."""
        self.common, self.needs_entropy = config, config.entropy != 0.0
        self.correction: Correction | None = None

    @abstractmethod
    def losses(self, tokens: ActionTokens) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return [n] losses before correction and weight, and [n] columns for metrics by name."""

    def token_weights(self, trajectories: NDArray[np.int64], turns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [n] each token's weight; trajectories and turns without a trained token do not count."""
        return token_weights(trajectories, turns, self.common.aggregate, self.common.length)

    def loss(self, tokens: ActionTokens) -> ObjectiveLoss:
        """Return the weighted sum over tokens, less the entropy bonus."""
        losses, columns = self.losses(tokens)
        total = weighted_sum(losses, tokens.weights, tokens.correction)
        if self.needs_entropy:
            total = total - self._entropy(tokens.progress) * (tokens.entropies * tokens.weights).sum()
        return ObjectiveLoss(loss=total, per_token=columns)

    def _entropy(self, progress: float) -> float:
        first, last = self.common.entropy, self.common.entropy_last
        return first if last is None else first + (last - first) * progress
