"""ReBel: how well the belief that a policy wrote down agrees with the world (algorithms.md 4.6).

Each turn the policy writes what it takes the state to be, which phase of the task it is in, and what it expects next.
A tracker in the environment compares:  r_cons = .40 r_state + .30 r_task + .20 r_pred + .10 r_format.

The scorer of an environment with a belief tracker will call this, once a turn. The weights are those of the published
runs; the released class's own defaults are .3/.4/.3/.1. How each part is measured is the environment's business.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnwise_rewards.missing import check_finite


@dataclass(frozen=True, kw_only=True, slots=True)
class BeliefWeights:
    """Weight of each part. ValueError for one that is negative or not finite."""

    state: float = 0.4
    task: float = 0.3
    prediction: float = 0.2
    format: float = 0.1

    def __post_init__(self) -> None:
        """Check all four."""
        for name in ("state", "task", "prediction", "format"):
            value = getattr(self, name)
            check_finite(f"weight {name!r}", value)
            if value < 0:
                raise ValueError(f"weight {name!r} is {value}: it must be at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class BeliefScores:
    """Agreement of one turn's belief with the world; None where the tracker could not tell. ValueError if not finite.

    `state` may be below 0: things that are believed and not there count against it.
    """

    state: float | None  # objects, their states, places visited and not
    task: float | None  # 1 if the phase is the true one, otherwise 0
    prediction: float | None  # share of the expectation's keywords that came true

    def __post_init__(self) -> None:
        """Check all three."""
        for name in ("state", "task", "prediction"):
            check_finite(f"belief score {name!r}", getattr(self, name))


def consistency_reward(
    scores: BeliefScores | None, format_score: float, weights: BeliefWeights | None = None
) -> float | None:
    """Return one turn's r_cons.

    `scores` is None where no belief could be read from the turn: that is the policy's doing, and only the format's
    share remains. A part that the tracker could not tell makes the reward missing, since it is not the policy's doing.
    """
    check_finite("format_score", format_score)
    weights = weights or BeliefWeights()
    form = weights.format * format_score
    if scores is None:
        return form
    if scores.state is None or scores.task is None or scores.prediction is None:
        return None
    belief = weights.state * scores.state + weights.task * scores.task + weights.prediction * scores.prediction
    return belief + form
