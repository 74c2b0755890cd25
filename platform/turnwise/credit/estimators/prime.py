"""PRIME: token rewards of an implicit reward model and outcomes, each with a token-wise leave-one-out (algorithms.md
1.2; arXiv 2502.01456).

For process and outcome rewards apart, with x_it the reward of token t (an outcome stands on the last token), m_j the
mean of x over the tokens of trajectory j that carry such a reward, and n trajectories in the group:

    y_it = coef (n x_it - sum over j of m_j) / (n - 1),    G_it = sum over u >= t of the y of both,    A = whiten(G)

Means a token, not sums, keep long trajectories from weighing more. whiten(G) = (G - mean) / sqrt(var + 1e-8) over all
tokens trained on in the batch, var the unbiased one, 0 elsewhere (the released function leaves -mean / std there).

A turn's score on the channel `process` is spread evenly over its tokens, which keeps its sum (that of a turn without
tokens goes to the last token before it); all other channels are outcomes. i is part of the mean that its tokens are
compared with, and whitening makes one group's advantages depend on the others', so it is biased: `istar` and
`turn_loo` are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, group_sum
from turnwise.credit.process import process_scores, scores_without
from turnwise.credit.tokens import TokenLayout
from turnwise.credit.whiten import whiten


@dataclass
class PrimeConfig:
    """Options of `prime`."""

    process: str = key("process", "the channel of the turns' scores, spread over their tokens")
    process_coef: float = key(5.0, "weight of the process rewards", at_least=0)
    outcome_coef: float = key(5.0, "weight of the outcomes", at_least=0)
    whiten: bool = key(True, "bring the returns of the batch's tokens to mean 0 and variance 1")
    singleton: str = key(
        "zero", "a trajectory with no other to compare: zero leaves it out, raw takes its rewards", one_of=SINGLETON
    )


class Prime:
    """The estimator `prime`."""

    Config = PrimeConfig
    needs_group = True
    channel_options = ("process",)

    def __init__(self, config: PrimeConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return an advantage a token; `values` are the means over each turn's tokens.

        A masked turn score leaves its turn and all earlier ones out, a masked outcome the whole trajectory.
        """
        codes, layout = group_codes(rewards.group), TokenLayout.of(rewards)
        scores, known = process_scores(rewards, self.config.process)
        outcome, outcome_known = scores_without(rewards, [self.config.process])
        returns, has_others = prime_returns(
            spread_evenly(layout, scores),
            layout.spread(known),
            *at_last_token(outcome, outcome_known, layout.turn_id >= 0),
            codes,
            (self.config.process_coef, self.config.outcome_coef),
        )
        usable = known_to_the_end(known | ~rewards.turn_exists) & rewards.turn_exists & outcome_known[:, None]
        usable &= has_others[:, None] | (self.config.singleton == "raw")
        is_trained = layout.spread(usable)
        tokens = whiten(returns, is_trained) if self.config.whiten else np.where(is_trained, returns, 0.0)
        return TurnAdvantages(values=layout.means(tokens), mask=usable, tokens=layout.split(tokens))


def spread_evenly(layout: TokenLayout, scores: Array) -> Array:
    """Return [N, L] scores of turns [N, K], each shared by its turn's tokens."""
    shares = layout.spread(scores / np.maximum(layout.num_tokens, 1))
    return shares + layout.at_ends(np.where(layout.num_tokens == 0, scores, 0.0))


def prime_returns(
    process: Array,
    process_known: Mask,
    outcome: Array,
    outcome_known: Mask,
    codes: NDArray[np.int64],
    coefs: tuple[float, float],
) -> tuple[Array, Mask]:
    """Return G of process rewards and of outcomes at their tokens, [N, L] each; what is unknown adds nothing to it.

    With it, [N] whether both kinds have another trajectory of the group to compare with.
    """
    process_part, has_process = token_leave_one_out(process, process_known, codes)
    outcome_part, has_outcome = token_leave_one_out(outcome, outcome_known, codes)
    total = coefs[0] * process_part + coefs[1] * outcome_part
    return np.cumsum(total[:, ::-1], axis=1)[:, ::-1], has_process & has_outcome


def token_leave_one_out(values: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return y of tokens, [N, L], 0 where unknown, and whether two rows of the group have a known token, [N].

    In a group with one such row, y is the reward itself.
    """
    num_known = known.sum(axis=1)
    means = np.where(known, values, 0.0).sum(axis=1) / np.maximum(num_known, 1)
    sums, n = (part[:, None] for part in group_sum(means, num_known > 0, codes))
    compared = (n * values - sums) / np.maximum(n - 1.0, 1.0)
    return np.where(known, np.where(n > 1.5, compared, values), 0.0), n[:, 0] > 1.5


def at_last_token(values: Array, known: Mask, is_token: Mask) -> tuple[Array, Mask]:
    """Return values [N] at each row's last token and where that is and the value is known, [N, L] each."""
    is_last = is_token & (np.cumsum(is_token, axis=1) == is_token.sum(axis=1, keepdims=True))
    return np.where(is_last, values[:, None], 0.0), is_last & known[:, None]


def known_to_the_end(known: Mask) -> Mask:
    """Return [N, K] whether a turn and all later ones are known."""
    return np.asarray(np.logical_and.accumulate(known[:, ::-1], axis=1)[:, ::-1])
