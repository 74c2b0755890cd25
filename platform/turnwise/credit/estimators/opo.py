"""OPO: a trajectory's score minus its group's mean weighted by length (algorithms.md 3.3; arXiv 2505.23585).

By channel c with weight w_c, and l_i the action tokens of trajectory i:

    A_i = sum_c w_c (S_ic - b_c),    b_c = sum over j in the group of l_j S_jc / sum of l_j

every turn of the trajectory gets it. The baseline of least variance weighs by the squared norm of the gradient of
log pi, which is taken to grow with the number of tokens. It includes the trajectory itself, so it is biased: the
advantage shrinks by the trajectory's share of the group's tokens. Observation tokens do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, group_sum
from turnwise.credit.returns import trajectory_scores
from turnwise.credit.spread import to_turns


@dataclass
class OpoConfig:
    """Options of `opo`."""

    singleton: str = key(
        "zero", "a trajectory with no other to compare: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class Opo:
    """The estimator `opo`."""

    Config = OpoConfig
    needs_group = True

    def __init__(self, config: OpoConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a masked score is in no baseline, and its trajectory is not trained on."""
        codes, lengths = group_codes(rewards.group), rewards.num_tokens.sum(axis=1).astype(np.float64)
        total, usable = np.zeros(len(codes)), np.ones(len(codes), dtype=bool)
        for channel in rewards.channels:
            scores, known = trajectory_scores(rewards, channel)
            weighted, _ = group_sum(lengths * scores, known, codes)
            tokens, _ = group_sum(lengths, known, codes)
            has_others = tokens - np.where(known, lengths, 0.0) > 0.5
            total += rewards.weights[channel] * (scores - np.where(has_others, weighted / np.maximum(tokens, 1.0), 0.0))
            usable &= known & (has_others | (self.config.singleton == "raw"))
        return to_turns(total, usable, rewards)
