"""GiGPO: trajectories compared within their group, turns within their state (algorithms.md 3.6; arXiv 2505.10978).

With S_i the undiscounted score of trajectory i, G_ik its return from turn k on, and all channels in a weighted sum:

    A_ik = A^E_i + omega A^S_ik
    A^E_i = S_i - mean over the group's trajectories          (mean_std_norm: / (std + eps))
    A^S_ik = G_ik - mean over the group's visits of the state (mean_std_norm: / (std + eps))

Visits of a state (`state_key`) are turns with the same key, of any trajectory of the group and at any turn index. As
in the paper each visit counts: a trajectory that comes back to a state is several of its members. A state visited
once, or a turn without a key, has A^S = 0. Both means include the trajectory itself: biased; `state_gae` is not, with
lam = 1.

`cross_steps` takes A^E's mean and standard deviation over turns, as later releases do, so that long trajectories weigh
more. With gamma < 1 the whole-trajectory score reaches an earlier turn discounted by its distance to the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, centred, group_codes, group_sum, normalised
from turnwise.credit.returns import weighted_returns, weighted_scores
from turnwise.credit.states import state_codes


@dataclass
class GigpoConfig:
    """Options of `gigpo`."""

    gamma: float = key(0.95, "discount a turn, of the returns that states compare", at_least=0, at_most=1)
    omega: float = key(1.0, "weight of the comparison within states", at_least=0)
    norm: str = key(
        "mean_norm",
        "mean_norm subtracts the mean, mean_std_norm also divides by the standard deviation",
        one_of=("mean_norm", "mean_std_norm"),
    )
    eps: float = key(1e-6, "added to the standard deviations", above=0, only_if=("norm", "mean_std_norm"))
    cross_steps: bool = key(False, "the trajectories' mean and standard deviation over turns, not over trajectories")
    singleton: str = key(
        "zero", "a group with one scored trajectory: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class Gigpo:
    """The estimator `gigpo`."""

    Config = GigpoConfig
    needs_group = True
    needs_keys = "state"

    def __init__(self, config: GigpoConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a trajectory with a masked score is not trained on, its known returns count."""
        groups, exists = group_codes(rewards.group), rewards.turn_exists
        scores, scored = weighted_scores(rewards)
        returns, known = weighted_returns(rewards, self.config.gamma)
        states = state_codes(groups, rewards.state_keys, exists)
        total = self._of_trajectories(scores, scored, groups, exists)
        total += self.config.omega * self._of_states(returns, known & (states >= 0), states)
        num_scored = group_sum(scores, scored, groups)[1]
        usable = exists & (scored & ((num_scored > 1.5) | (self.config.singleton == "raw")))[:, None]
        return TurnAdvantages(values=np.where(usable, total, 0.0), mask=usable)

    def _of_trajectories(self, scores: Array, scored: Mask, groups: NDArray[np.int64], exists: Mask) -> Array:
        """Return A^E, [N, K]; compared are trajectories, or with `cross_steps` their turns."""
        advantages = np.zeros(exists.shape)
        if self.config.cross_steps:
            rows = np.nonzero(exists & scored[:, None])
            advantages[rows] = self._compared(scores[rows[0]], groups[rows[0]])
        else:
            advantages[scored] = self._compared(scores[scored], groups[scored])[:, None]
        return advantages

    def _of_states(self, returns: Array, counted: Mask, states: NDArray[np.int64]) -> Array:
        """Return A^S, [N, K]; 0 where a state was visited once."""
        advantages = np.zeros(returns.shape)
        codes = states[counted]
        is_repeated = (np.bincount(codes)[codes] > 1) if len(codes) else np.zeros(0, dtype=bool)
        advantages[counted] = np.where(is_repeated, self._compared(returns[counted], codes), 0.0)
        return advantages

    def _compared(self, values: Array, codes: NDArray[np.int64]) -> Array:
        known = np.ones(len(values), dtype=bool)
        if self.config.norm == "mean_norm":
            return centred(values, known, codes)[0]
        return normalised(values, known, codes, self.config.eps)[0]
