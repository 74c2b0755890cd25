"""TRLOO: a turn's return minus the mean of the others' that got there (algorithms.md 3.7; arXiv 2602.05885).

By channel c with weight w_c, and G_ik the return of trajectory i from turn k on:

    A_ik = sum_c w_c (G_ikc - mean over j != i in the group that have a turn k of G_jkc)

Trajectories that ended before turn k are not compared: late turns have few members. With `singleton: raw`, as the
authors have it, it is unbiased, but the whole return of a lone survivor can dominate a batch; with `zero` lone
survivors are not trained on, which is biased against late turns. `turn_loo` keeps ended trajectories in the baseline
and has neither trouble.

The authors also leave turns out of baseline and training whose reward is known (an action cut off or vetoed): their
reward still flows to the turns before. `leave_one_out` takes such a mask as `counted`. A masked score of ours says
more: the reward is not known, so that neither is any return that contains it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, mean_of_others
from turnwise.credit.returns import turn_returns


@dataclass
class TrlooConfig:
    """Options of `trloo`."""

    gamma: float = key(1.0, "discount a turn", at_least=0, at_most=1)
    singleton: str = key(
        "zero", "a turn that no other trajectory reached: zero leaves it out, raw takes its return", one_of=SINGLETON
    )


class Trloo:
    """The estimator `trloo`."""

    Config = TrlooConfig
    needs_group = True

    def __init__(self, config: TrlooConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; an unknown return is in no baseline, and its turn is not trained on."""
        codes, usable = group_codes(rewards.group), rewards.turn_exists
        total = np.zeros(usable.shape)
        for channel in rewards.channels:
            returns, known = turn_returns(rewards, channel, self.config.gamma)
            advantages, has_others = leave_one_out(returns, known & rewards.turn_exists, codes)
            total += rewards.weights[channel] * advantages
            usable = usable & known & (has_others | (self.config.singleton == "raw"))
        return TurnAdvantages(values=np.where(usable, total, 0.0), mask=usable)


def leave_one_out(returns: Array, counted: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return by turn index the counted returns minus the mean of the others' counted ones, and where there is one.

    [N, K] each; the return itself where there is none, 0 where it is not counted.
    """
    baseline, has_others = mean_of_others(returns, counted, codes)
    return np.where(counted, returns - baseline, 0.0), has_others & counted
