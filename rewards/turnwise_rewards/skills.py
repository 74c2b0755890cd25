"""SCRIBE: a process reward from subgoals, each judged by the rubric of its skill (algorithms.md 4.16; 2601.03555).

A router cuts a trajectory into subgoals and looks for each one's prototype in a library of skills; a judge scores the
subgoal by that prototype's criteria. The reward is the mean over the subgoals with a prototype (the weights are not
published; equal ones are ours). A subgoal that no prototype fits is left out: the library's gap is not the policy's
fault. What fits depends on what the policy did, though, so a policy may drift to what is judged kindly: count the
share of subgoals that found a prototype.

A skill scorer will call `process_reward` for one score of the whole trajectory, or `turn_scores` for one a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnwise.credit import Array, Mask
from turnwise_rewards.missing import check_finite, mean_of_known


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgoal:
    """One subgoal of a trajectory. ValueError for a score without a prototype, or one that is not finite."""

    prototype: str | None  # the skill that fits; None: none does
    score: float | None  # the judge's, by the prototype's rubric; None: no prototype, or the judge failed
    last_turn: int = 0  # the turn in which the subgoal's span ends

    def __post_init__(self) -> None:
        """Check the two."""
        check_finite(f"the score of subgoal {self.prototype!r}", self.score)
        if self.prototype is None and self.score is not None:
            raise ValueError(f"a subgoal without a prototype has the score {self.score}: nothing could judge it")


def process_reward(subgoals: Sequence[Subgoal]) -> float | None:
    """Return the mean score of the subgoals that have one; None where none has."""
    return mean_of_known(one.score for one in subgoals)


def turn_scores(subgoals: Sequence[Subgoal], num_turns: int) -> tuple[Array, Mask]:
    """Return [num_turns] scores, and which are known; a subgoal's score goes to the turn in which its span ends.

    Each is divided by the number of scored subgoals, so that the turns sum to `process_reward`. A turn in which no
    subgoal ends has 0; one in which a subgoal ends that the judge failed on is masked; without any score all are.
    ValueError for a subgoal that ends outside the trajectory.
    """
    values, known = np.zeros(num_turns), np.ones(num_turns, dtype=bool)
    num_scored = sum(one.score is not None for one in subgoals)
    for one in subgoals:
        if not 0 <= one.last_turn < num_turns:
            raise ValueError(f"subgoal {one.prototype!r} ends in turn {one.last_turn}, of {num_turns} turns")
        if one.score is not None:
            values[one.last_turn] += one.score / num_scored
        elif one.prototype is not None:
            known[one.last_turn] = False
    known &= num_scored > 0
    return np.where(known, values, 0.0), known
