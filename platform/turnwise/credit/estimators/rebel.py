"""ReBel: outcomes and consistency of beliefs, compared where the policy believed the same (algorithms.md 4.6).

With R_i the weighted sum of all channels but `consistency`, c_ik the consistency score of turn k, K_i turns, and two
returns of each turn,  R^env_ik = gamma^(K_i - 1 - k) R_i  and  R^bel_ik = sum over j >= k of gamma^(j - k) c_ij:

    A_ik = (R_i - mean of R in the group) + step_weight ((R^env_ik - mean) + (R^bel_ik - mean))

the last two means over all turns of the group with the same `belief_key`, i's own included. A turn whose belief nobody
else had, or that has no key, has the first part alone. As beliefs of different turns compare returns of different
lengths, and the means include i, the estimate is biased; `state_gae` compares by keys without that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, centred, group_codes
from turnwise.credit.process import scores_without
from turnwise.credit.returns import turn_returns
from turnwise.credit.states import state_codes


@dataclass
class RebelConfig:
    """Options of `rebel`."""

    consistency: str = key("consistency", "the channel that scores a turn's belief against the world")
    gamma: float = key(0.95, "discount a turn", at_least=0, at_most=1)
    step_weight: float = key(0.5, "weight of what turns with the same belief are compared by", at_least=0)
    singleton: str = key(
        "zero", "a group with one scored trajectory: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class Rebel:
    """The estimator `rebel`."""

    Config = RebelConfig
    needs_group = True
    needs_keys = "belief"
    channel_options = ("consistency",)

    def __init__(self, config: RebelConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn.

        A masked outcome leaves its trajectory out, a masked consistency score its turn and all earlier ones; each
        leaves only the means of its own kind.
        """
        codes, exists = group_codes(rewards.group), rewards.turn_exists
        beliefs = state_codes(codes, rewards.belief_keys, exists)
        scores, known = scores_without(rewards, [self.config.consistency])
        episode, has_others = centred(scores, known, codes)
        turns_left = np.asarray(rewards.num_turns)[:, None] - 1 - np.arange(exists.shape[1])
        env = np.where(exists, self.config.gamma ** np.maximum(turns_left, 0) * scores[:, None], 0.0)
        belief, belief_known = turn_returns(rewards, self.config.consistency, self.config.gamma)
        belief = rewards.weights[self.config.consistency] * belief
        usable = exists & belief_known & (known & (has_others | (self.config.singleton == "raw")))[:, None]
        step = _compared(env, exists & known[:, None], beliefs) + _compared(belief, exists & belief_known, beliefs)
        values = episode[:, None] + self.config.step_weight * step
        return TurnAdvantages(values=np.where(usable, values, 0.0), mask=usable)


def _compared(values: Array, known: Mask, keys: NDArray[np.int64]) -> Array:
    """Return [N, K] values minus the mean at the same key; 0 where no second turn has it, or the key is -1."""
    has_key = known & (keys >= 0)
    deviations, is_shared = centred(values.reshape(-1), has_key.reshape(-1), keys.reshape(-1) + 1)
    return np.where(has_key & is_shared.reshape(keys.shape), deviations.reshape(keys.shape), 0.0)
