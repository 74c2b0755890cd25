"""iStar: an outcome advantage plus one of each turn's own implicit reward (algorithms.md 1.1; arXiv 2509.19199).

With r_ik the score of turn k on the channel `process` (an implicit reward model gives it) and R_i the weighted
sum of all other channels:  A_ik = A^E_i + alpha A^S_ik,  where

- `paper`: A^E_i = (R_i - mean) / (std + eps) over the group's trajectories, and A^S_ik = (r_ik - mean) / (std + eps)
  over all turns of all its trajectories, with unbiased std.
- `leave_one_out`, our default: A^E_i = R_i minus the mean of the others' R, and A^S_ik = r_ik minus the mean of r over
  all turns of the *other* trajectories. Neither baseline depends on i's actions, so both parts are unbiased whatever
  the turn counts; nothing is divided, so alpha weighs r in its own unit.

A process reward model that has learnt nothing gives rewards of numerical size, which a division by their own standard
deviation blows up to full size: `paper` skips the process part of a group whose largest |r| is below `noise_floor`
(1e-3 of beta = 0.05). `leave_one_out` needs no such guard.

The released `istar_rloo` takes for the baseline of A^S the mean over the row of each trajectory that comes first in
the batch, so that the order of rows decides it; here no order does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import SINGLETON, group_codes, group_sum, mean_of_others, normalised
from turnwise.credit.process import process_scores, scores_without

BASELINES = ("leave_one_out", "paper")


@dataclass
class IstarConfig:
    """Options of `istar`."""

    process: str = key("process", "the channel of the turns' own scores")
    alpha: float = key(1.0, "weight of the turns' own advantages", at_least=0)
    baseline: str = key(
        "leave_one_out", "leave_one_out: the other trajectories' mean; paper: normalised in the group", one_of=BASELINES
    )
    eps: float = key(1e-6, "added to the standard deviations", only_if=("baseline", "paper"), above=0)
    noise_floor: float = key(
        5e-5,
        "a group whose turn scores are all smaller than this is normalised by outcomes only",
        only_if=("baseline", "paper"),
        at_least=0,
    )
    singleton: str = key(
        "zero", "a score with no other to compare: zero leaves its turns out, raw takes it", one_of=SINGLETON
    )


class Istar:
    """The estimator `istar`."""

    Config = IstarConfig
    needs_group = True
    channel_options = ("process",)

    def __init__(self, config: IstarConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn.

        A masked outcome leaves its trajectory out, not its turns' scores out of others' baselines; a masked turn score
        leaves out that turn alone.
        """
        codes = group_codes(rewards.group)
        scores, known = scores_without(rewards, [self.config.process])
        steps, steps_known = process_scores(rewards, self.config.process)
        if self.config.baseline == "paper":
            episode, has_others = normalised(scores, known, codes, self.config.eps)
            step, has_steps = self._normalised_steps(steps, steps_known, codes)
        else:
            baseline, has_others = mean_of_others(scores, known, codes)
            episode = scores - baseline
            baseline, has_steps = mean_over_other_trajectories(steps, steps_known, codes)
            step = steps - baseline
        takes_raw = self.config.singleton == "raw"
        usable = (known & (has_others | takes_raw))[:, None] & steps_known & (has_steps | takes_raw)
        return TurnAdvantages(values=np.where(usable, episode[:, None] + self.config.alpha * step, 0.0), mask=usable)

    def _normalised_steps(self, steps: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
        """Return A^S of the paper, and where there is one; [N, K] each. Noise is 0 and may be used."""
        flat = np.repeat(codes, steps.shape[1])
        advantages, has_others = normalised(steps.reshape(-1), known.reshape(-1), flat, self.config.eps)
        largest = np.zeros(len(codes))
        np.maximum.at(largest, codes, np.where(known, np.abs(steps), 0.0).max(axis=1))
        is_noise = (largest[codes] < self.config.noise_floor)[:, None]
        return np.where(is_noise, 0.0, advantages.reshape(steps.shape)), has_others.reshape(steps.shape) | is_noise


def mean_over_other_trajectories(values: Array, known: Mask, codes: NDArray[np.int64]) -> tuple[Array, Mask]:
    """Return the mean over all known turns of the other trajectories, and where there is one; [N, 1] each."""
    sums, counts = (part.sum(axis=1) for part in group_sum(values, known, codes))
    others = counts - known.sum(axis=1)
    exists = others > 0.5
    rest = sums - np.where(known, values, 0.0).sum(axis=1)
    return np.where(exists, rest / np.maximum(others, 1.0), 0.0)[:, None], exists[:, None]
