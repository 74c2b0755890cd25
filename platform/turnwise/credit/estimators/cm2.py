"""CM2 by turn: a turn's checklist score against the same turn of the group's other trajectories (algorithms.md 4.4).

With S_ik the weighted sum of all channels' scores of turn k (a whole-trajectory score is part of the last turn's),

    A_ik = S_ik - mean over the group's trajectories that have a turn k,    over (std + eps) if `std` is set

A turn that fewer than `min_group` trajectories have is not trained on. There are no returns: a turn answers for its own
checklist only, which is why an outcome has no good place here. The mean includes i and survivors alone, so it is
biased where turn counts differ; `turn_loo` says how, and is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import centred, group_codes, group_sum, normalised
from turnwise.credit.returns import weighted_rewards


@dataclass
class Cm2Config:
    """Options of `cm2`."""

    min_group: int = key(5, "a turn that fewer trajectories of its group have is left out", at_least=2)
    std: bool = key(False, "divide by the standard deviation")
    eps: float = key(1e-6, "added to the standard deviation", only_if=("std", True), above=0)


class Cm2:
    """The estimator `cm2`."""

    Config = Cm2Config
    needs_group = True

    def __init__(self, config: Cm2Config) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a turn with a masked score is in no mean and is not trained on."""
        codes = group_codes(rewards.group)
        scores, known = weighted_rewards(rewards)
        known &= rewards.turn_exists
        if self.config.std:
            values, _ = normalised(scores, known, codes, self.config.eps)
        else:
            values, _ = centred(scores, known, codes)
        _, counts = group_sum(scores, known, codes)
        usable = known & (counts >= self.config.min_group)
        return TurnAdvantages(values=np.where(usable, values, 0.0), mask=usable)
