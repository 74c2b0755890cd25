"""VPR without states: a turn's reward against those of the same turn index in the whole batch (algorithms.md 4.17).

With r_ik the weighted sum of all channels' rewards of turn k alone, no later ones, the whole-trajectory score being
part of the last turn's, and over all turns with index k of the batch, whatever their group:

    A_ik = (r_ik - mean_k) / (std_k + 1e-8)

with the population's standard deviation; with fewer than `min_turns` such turns, those of all turns of the batch.
It is what VPR falls back to where states are not compared (`vpr`): it needs no groups and no keys, but mixes tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.returns import weighted_rewards
from turnwise.credit.whiten import standardise


@dataclass
class VprTurnIndexConfig:
    """Options of `vpr_turn_index`."""

    min_turns: int = key(4, "turns of one index below which the whole batch's statistics stand in", at_least=1)


class VprTurnIndex:
    """The estimator `vpr_turn_index`."""

    Config = VprTurnIndexConfig
    needs_group = False

    def __init__(self, config: VprTurnIndexConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a masked reward hides its own turn alone."""
        immediate, known = weighted_rewards(rewards)
        usable = known & rewards.turn_exists
        advantages = standardise(immediate, usable)
        for k in np.nonzero(usable.sum(axis=0) >= self.config.min_turns)[0]:
            advantages[:, k] = standardise(immediate[:, k], usable[:, k])
        return TurnAdvantages(values=advantages, mask=usable)
