"""CM2 by step: which step could still complete which item of a checklist, and did (algorithms.md 4.4).

Every channel of `credit.channels` is one item c of the checklist and its weight is w_c; a turn's score above 0.5 says
that the item is complete after this turn (a whole-trajectory score, after the last). `dependence` names the items that
must be complete before. With d_ic the first turn of trajectory i after which c is complete, none if never, and

    ready_ic = 1 + the last d over c's dependencies, 0 without any:  from this turn on, c can be worked at
    open_ikc = ready_ic <= k <= d_ic:                                 c can be worked at in turn k and was not complete
    s_ikc    = eta^(d_ic - k), 0 if c is never completed:             what turn k did for c
    m_c      = mean of eta^max(0, d_ic - ready_ic), 0 if never, over the group's trajectories with ready_ic at all

    A_ik = sum over c open in turn k, with at least `min_group` members in m_c, of w_c (s_ikc - m_c)

An item completed in the same turn as its dependency was never open: it counts in m_c and gives no turn any credit, as
in the source. The mean includes i, so the estimate is biased by 1 / n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnwise.config.schema import key
from turnwise.credit import Array, Mask, TurnAdvantages, TurnRewards
from turnwise.credit.baseline import group_codes, group_sum
from turnwise.credit.returns import rewards_with_outcome
from turnwise.errors import UserError

NEVER = np.iinfo(np.int64).max // 2


@dataclass
class Cm2StepConfig:
    """Options of `cm2_step`."""

    dependence: dict[str, list[str]] = key({}, "by channel, the channels that must be complete before it")  # noqa: RUF009
    eta: float = key(1.0, "factor a turn that an item's completion is still away", at_least=0, at_most=1)
    min_group: int = key(5, "an item that fewer trajectories of a group got to is left out", at_least=2)
    divide: bool = key(False, "divide by the sum of all weights")


class Cm2Step:
    """The estimator `cm2_step`."""

    Config = Cm2StepConfig
    needs_group = True
    channel_options = ("dependence",)

    def __init__(self, config: Cm2StepConfig) -> None:
        """Take the options; UserError for items that wait for each other."""
        self.config = config
        _check_order(config.dependence)

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        """Return one advantage a turn.

        When an item was completed is a matter of the whole trajectory: with a masked score on any item it is in no mean
        and is not trained on.
        """
        codes, exists, items = group_codes(rewards.group), rewards.turn_exists, self._items(rewards)
        weights = np.asarray([rewards.weights[item] for item in items])
        scores = [rewards_with_outcome(rewards, item) for item in items]
        passes = np.stack([values > 0.5 for values, _ in scores], axis=2)
        counted = exists.any(axis=1) & np.all([known.all(axis=1) for _, known in scores], axis=0)
        before = [[items.index(other) for other in self.config.dependence.get(item, ())] for item in items]
        values = step_advantages(
            passes,
            exists & counted[:, None],
            before,
            weights,
            codes,
            eta=self.config.eta,
            min_group=self.config.min_group,
        )
        if self.config.divide:
            values = values / np.abs(weights).sum()
        _, num_members = group_sum(np.zeros(len(codes)), counted, codes)
        usable = exists & (counted & (num_members >= self.config.min_group))[:, None]
        return TurnAdvantages(values=np.where(usable, values, 0.0), mask=usable)

    def _items(self, rewards: TurnRewards) -> list[str]:
        """Return the channels with a weight and those that others wait for, which may have lost theirs (`anneal`)."""
        return sorted({*rewards.channels, *(name for others in self.config.dependence.values() for name in others)})


def step_advantages(
    passes: Mask,
    exists: Mask,
    before: Sequence[Sequence[int]],
    weights: Array,
    codes: NDArray[np.int64],
    *,
    eta: float,
    min_group: int,
) -> Array:
    """Return A, [N, K], of `passes`, [N, K, num_items]; rows of `exists`, [N, K], without a turn are in no mean.

    `before` are the dependencies of each item by its place.
    """
    done = first_pass(passes & exists[:, :, None])
    ready = np.stack([first_turn_after(done, dependencies) for dependencies in before], axis=1)
    reached = (ready < NEVER) & exists.any(axis=1, keepdims=True)
    whole = np.where(done < NEVER, eta ** np.clip(done - ready, 0, exists.shape[1]).astype(np.float64), 0.0)
    sums, counts = group_sum(whole, reached, codes)
    turns = np.arange(exists.shape[1])[None, :, None]
    is_open = exists[:, :, None] & (ready[:, None] <= turns) & (turns <= done[:, None])
    score = np.where(
        done[:, None] < NEVER, eta ** np.clip(done[:, None] - turns, 0, exists.shape[1]).astype(np.float64), 0.0
    )
    difference = score - (sums / np.maximum(counts, 1.0))[:, None]
    return np.asarray(np.where(is_open & (counts >= min_group)[:, None], weights * difference, 0.0).sum(axis=2))


def first_pass(passes: Mask) -> NDArray[np.int64]:
    """Return [N, num_items] the first turn that passes each item, NEVER where none does."""
    return np.where(passes.any(axis=1), passes.argmax(axis=1), NEVER)


def first_turn_after(done: NDArray[np.int64], dependencies: Sequence[int]) -> NDArray[np.int64]:
    """Return [N] the first turn before which all dependencies were complete, NEVER if they are not."""
    last = done[:, list(dependencies)].max(axis=1, initial=-1)
    return np.where(last < NEVER, last + 1, NEVER)


def _check_order(dependence: Mapping[str, Sequence[str]]) -> None:
    """Refuse dependencies that run in a circle: none of their items could ever be worked at."""
    waiting = {item: set(others) for item, others in dependence.items()}
    while free := [item for item, others in waiting.items() if not others & waiting.keys()]:
        for item in free:
            del waiting[item]
    if waiting:
        item = sorted(waiting)[0]
        remedy = "leave out one of the dependencies"
        raise UserError(
            f"credit.estimator.dependence.{item}", dependence[item], "the items wait for each other", remedy
        )
