"""The importance weight w = pi_proximal / pi_sampler of a token, or of the whole turn or trajectory that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnwise.errors import UserError
from turnwise.learner.objectives.ratio import group_log_ratio, ratio

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = ("token", "turn", "sequence")

WHOLE = ("turn", "sequence")
"""Levels at which the tokens' ratios are combined in some form."""


def importance(log_ratio: Tensor, trajectories: Tensor, turns: Tensor, level: str, form: str) -> Tensor:
    """Return [n] w at a level, given [n] log-ratios of tokens; `form` (product, geometric) is for longer levels."""
    if level != "token":
        log_ratio = group_log_ratio(log_ratio, turns if level == "turn" else trajectories, form)
    return ratio(log_ratio)


def check_band(low: float, high: float) -> None:
    """Refuse a band that nothing, not even equal policies, would lie in."""
    if not low < 1.0 < high:
        problem = f"with high={high:g} the band of w leaves out 1, which is w of equal policies"
        raise UserError("learner.correction.low", low, problem, "use low below 1 and high above 1, such as 0.5 and 2")
