"""MT-GRPO: the first tool call has a reward of its own besides the outcome (algorithms.md 3.9; arXiv 2505.11821).

Of trajectory i, T_i is what the channel `process` says of its tool use (its turn scores and its whole score summed),
O_i the weighted sum of all other channels, C_i = T_i + O_i. Each is normalised within the group,
A = (x - mean) / (std + eps) with the unbiased std, and

    A_i0 = A^O_i + coef A^T_i      the turn that made the first tool call
    A_ik = A^O_i                   every later turn
    A_i0 = A^C_i                   a trajectory of one turn: it saw no tool result

The released code finds the first tool result by counting runs of equal mask values, which two adjacent messages of
the policy shift; here turns are known. The normalisation includes i itself and divides by the standard deviation, so
it is biased; `turn_loo` on the same channels is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, normalised
from turnwise.credit.process import process_scores, scores_on, scores_without
from turnwise.credit.returns import weighted_scores


@dataclass
class MtGrpoConfig:
    """Options of `mt_grpo`."""

    process: str = key("process", "the channel that judges the first tool call")
    coef: float = key(1.0, "weight of its advantage on the first turn", at_least=0)
    eps: float = key(1e-4, "added to the standard deviations", above=0)
    singleton: str = key(
        "zero", "a score with no other in its group: zero leaves its turns out, raw takes it", one_of=SINGLETON
    )


class MtGrpo:
    """The estimator `mt_grpo`."""

    Config = MtGrpoConfig
    needs_group = True
    channel_options = ("process",)

    def __init__(self, config: MtGrpoConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn.

        A masked score leaves its own statistics, and its own turn and those that its sum is for out of the loss.
        """
        codes, process = group_codes(rewards.group), self.config.process
        turn, turn_usable = self._advantages(*scores_on(rewards, process), codes)
        outcome, outcome_usable = self._advantages(*scores_without(rewards, [process]), codes)
        combined, combined_usable = self._advantages(*weighted_scores(rewards), codes)
        is_first = np.arange(rewards.num_tokens.shape[1])[None, :] == 0
        has_one = np.asarray(rewards.num_turns)[:, None] == 1
        values = np.where(has_one, combined, outcome + np.where(is_first, self.config.coef * turn, 0.0))
        usable = np.where(has_one, combined_usable, outcome_usable & (turn_usable | ~is_first))
        usable &= process_scores(rewards, process)[1]
        return TurnAdvantages(values=np.where(usable, values, 0.0), mask=usable)

    def _advantages(self, scores: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
        """Return the normalised scores and which may be used, [N, 1] each."""
        advantages, has_others = normalised(scores, known, codes, self.config.eps)
        return advantages[:, None], (known & (has_others | (self.config.singleton == "raw")))[:, None]
