"""C-GRPO's reward (arXiv 2601.06021; algorithms.md 2): a rubric ranks what succeeded and gives a failure nothing.

With R_o the outcome's and R_r the rubric's sum over a trajectory:

    R = (1 - alpha) R_o + alpha R_o Rhat,    Rhat_i = R_r,i / max over the whole group of R_r,j

Rhat is 0 where the maximum is 0. The maximum runs over everyone whose rubric score is known, those with a wrong answer
included: they show what could have been evidenced. With `relative: false` Rhat is R_r itself, as in the released code,
and a lone success with half of its evidence is worth less than one with all of it. All scores of the outcome channel,
of turns and of the whole, are multiplied by the same factor, so their sum is R; where R_o is not positive the factor is
1 - alpha. A masked rubric score masks the outcome, of a failure too. JudgeError for a rubric score below 0, or, with
`relative: false`, above 1.

With `by_turn` = w > 0 the part w alpha R_o r_k / best goes to the turn k whose score r_k earned it, and the rest stays
where the outcome was; the sum is the same. What a turn is paid teaches it and the turns before it, not those after it:
with w = 1 an answer that decides which evidence it cites learns nothing from the rubric (docs/rewards.md measures it).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.baseline import group_codes
from turnwise.credit.channel import Channel, channel_of, check_range, total, with_channel

EPS = 1e-9
"""What a sum of shares may exceed 1 by."""


@dataclass
class OnlyPositiveConfig:
    """Options of `only_positive`."""

    outcome: str = key("outcome", "the channel of the outcome, which is changed")
    rubric: str = key("rubric", "the channel of rubric scores, at least 0; it goes into the outcome")
    alpha: float = key(0.3, "share of a success that the rubric decides", above=0, at_most=1)
    relative: bool = key(
        True, "the best rubric score of the group counts as 1; false: scores count as they are, 0 to 1"
    )
    by_turn: float = key(
        0.0,
        "of that share, the part paid to the turns whose rubric scores earned it; the rest comes with the outcome",
        at_least=0,
        at_most=1,
    )


class OnlyPositive:
    """The fusion `only_positive`."""

    Config = OnlyPositiveConfig
    channel_options = ("outcome", "rubric")
    folded_options = ("rubric",)

    def __init__(self, config: OnlyPositiveConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def fuse(self, rewards: TurnRewards) -> TurnRewards:
        """Return the rewards with the outcome weighed by the rubric."""
        outcome, _ = total(rewards, self.config.outcome)
        rubric, known = total(rewards, self.config.rubric)
        high = np.inf if self.config.relative else 1.0 + EPS
        check_range(rewards, self.config.rubric, rubric, known, low=0.0, high=high)
        share = relative_to_best(rubric, known, rewards) if self.config.relative else np.where(known, rubric, 0.0)
        alpha, paid_to_turns = self.config.alpha, self.config.by_turn
        succeeded = np.where(outcome > 0.0, share, 0.0)
        factor = 1.0 - alpha + (1.0 - paid_to_turns) * alpha * succeeded
        weighed = channel_of(rewards, self.config.outcome).scaled(factor, known)
        if paid_to_turns:
            each = np.where(rubric > 0.0, succeeded * outcome / np.where(rubric > 0.0, rubric, 1.0), 0.0)
            weighed = self._paid(weighed, channel_of(rewards, self.config.rubric), paid_to_turns * alpha * each)
        return with_channel(rewards, self.config.outcome, weighed)

    def _paid(self, weighed: Channel, parts: Channel, each: Array) -> Channel:
        """Return the outcome with `each` [N] times the rubric's scores added where they stand."""
        return dataclasses.replace(
            weighed,
            turn=weighed.turn + each[:, None] * parts.turn,
            turn_mask=weighed.turn_mask & parts.turn_mask,
            outcome=weighed.outcome + each * parts.outcome,
        )


def relative_to_best(values: Array, known: Mask, rewards: TurnRewards) -> Array:
    """Return [N] each value over the largest known one of its group; 0 where that is 0 or the value is unknown."""
    codes = group_codes(rewards.group)
    best = np.zeros(int(codes.max(initial=-1)) + 1)
    np.maximum.at(best, codes, np.where(known, values, 0.0))
    return np.where(known & (best[codes] > 0.0), values / np.where(best > 0.0, best, 1.0)[codes], 0.0)
