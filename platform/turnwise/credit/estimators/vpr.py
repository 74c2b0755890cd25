"""VPR: a turn's reward against those of other actions in the same state (algorithms.md 4.17; arXiv 2605.10325).

With r_ik the weighted sum of all channels' rewards of turn k alone, no later ones, the whole-trajectory score being
part of the last turn's, and the visits of a state being the turns of a group with the same `state_key`:

    mean_then_batch_whiten:  d_ik = r_ik - mean over the state's visits,  A = (d - mean) / (std + 1e-8) over the batch
    group_whiten:            A_ik = (r_ik - mean) / (std + 1e-8) over the state's visits

with the population's standard deviation. A state whose visits all got the same reward, one that was visited once and a
turn without a key teach nothing: they are in no statistic over the batch and are not trained on.

The authors sample several actions in every state that they visit and go on with the best. We compare what a group's
trajectories did in states that they share; a trajectory that comes back to a state is several of its members. A turn's
reward must judge the turn by itself (an oracle's verdict), since what follows from it is not in its advantage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import centred, group_codes, group_sum
from turnwise.credit.returns import weighted_rewards
from turnwise.credit.states import state_codes
from turnwise.credit.whiten import standardise

EPS = 1e-8
EQUAL = 1e-9
"""Rewards of one state that differ by no more are equal."""


@dataclass
class VprConfig:
    """Options of `vpr`."""

    norm: str = key(
        "mean_then_batch_whiten",
        "mean_then_batch_whiten divides by the batch's standard deviation, group_whiten by each state's own",
        one_of=("mean_then_batch_whiten", "group_whiten"),
    )


class Vpr:
    """The estimator `vpr`."""

    Config = VprConfig
    needs_group = True
    needs_keys = "state"

    def __init__(self, config: VprConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a masked reward hides its own turn alone."""
        immediate, known = weighted_rewards(rewards)
        states = state_codes(group_codes(rewards.group), rewards.state_keys, rewards.turn_exists)
        counted = known & rewards.turn_exists & (states >= 0)
        advantages, teaches = np.zeros(states.shape), np.zeros(states.shape, dtype=bool)
        advantages[counted], teaches[counted] = compare(immediate[counted], states[counted], self.config.norm)
        return TurnAdvantages(values=advantages, mask=teaches)


def compare(rewards: Array, states: NDArray[np.int64], norm: str) -> tuple[Array, Mask]:
    """Return each visit's advantage and whether its state teaches anything, [M] as the arguments."""
    known = np.ones(len(rewards), dtype=bool)
    deviations, _ = centred(rewards, known, states)
    teaches = _differs(deviations, states)
    if norm == "mean_then_batch_whiten":
        return standardise(deviations, teaches, EPS), teaches
    squares, counts = group_sum(deviations**2, known, states)
    return np.where(teaches, deviations / (np.sqrt(squares / counts) + EPS), 0.0), teaches


def _differs(deviations: Array, states: NDArray[np.int64]) -> Mask:
    """Return where a state was visited more than once, with different rewards."""
    largest = np.zeros(int(states.max(initial=-1)) + 1)
    np.maximum.at(largest, states, np.abs(deviations))
    return (largest[states] > EQUAL) & (np.bincount(states)[states] > 1 if len(states) else True)
