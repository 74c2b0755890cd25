"""VeRPO: solved or not, plus how hard the tests were that each attempt passed (algorithms.md 4.5; arXiv 2601.03525).

With r_ik the score of turn k on the channel `process` (made from unit tests, by how hard they are), S_i the weighted
sum of all other channels (1 if solved) and K_i turns:

    A_ik = (gamma^K_i S_i - mean over the group's trajectories) + beta (r_ik - mean over all turns of the group)

Nothing is divided by a standard deviation. Only the last attempt's verdict belongs into S, and r should stay below a
solution's worth. gamma and beta are ours, as the paper's values are not known to us. The means include i, and gamma^K_i
pushes long successes down: both are the method's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, centred, group_codes
from turnwise.credit.process import process_scores, scores_without


@dataclass
class VerpoConfig:
    """Options of `verpo`."""

    process: str = key("process", "the channel of the turns' own scores")
    beta: float = key(1.0, "weight of the turns' own advantages", at_least=0)
    gamma: float = key(0.9, "factor on the outcome a turn that was taken", at_least=0, at_most=1)
    singleton: str = key(
        "zero", "a group with one scored trajectory: zero leaves it out, raw takes its score", one_of=SINGLETON
    )


class Verpo:
    """The estimator `verpo`."""

    Config = VerpoConfig
    needs_group = True
    channel_options = ("process",)

    def __init__(self, config: VerpoConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn; a masked outcome leaves its trajectory out, a masked turn score its turn."""
        codes = group_codes(rewards.group)
        scores, known = scores_without(rewards, [self.config.process])
        episode, has_others = centred(self.config.gamma ** np.asarray(rewards.num_turns) * scores, known, codes)
        turns, turns_known = process_scores(rewards, self.config.process)
        flat = np.repeat(codes, turns.shape[1])  # one code a turn: the mean is over all of a group's
        step = centred(turns.reshape(-1), turns_known.reshape(-1), flat)[0].reshape(turns.shape)
        usable = (known & (has_others | (self.config.singleton == "raw")))[:, None] & turns_known
        values = episode[:, None] + self.config.beta * step
        return TurnAdvantages(values=np.where(usable, values, 0.0), mask=usable)
