"""OpenRS: one answer against another, by criteria that a judge wrote for this pair (algorithms.md 4.13).

Each criterion has a kind and a score from -2 (the second answer is much better) to 2 (the first is). With w the kind's
weight, over the criteria that tell the two apart (score other than 0):

    s = sum w_c score_c / (sum w_c + 1e-6)

A fatal criterion is a veto: one that is not 0 decides alone, and s is the sum of the fatal scores. Judges favour a
place, so both orders are judged, and only an answer that wins in both is better.

A pairwise scorer will call `pair_score` on each reply of its judge, `bidirectional_verdict` on the two orders, and
`mean_verdict` over an answer's opponents, which are its group (round robin, ours) or one baseline answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from turnwise_rewards.missing import check_finite, mean_of_known

Verdict = Literal["good", "bad", "same"]

FATAL = "fatal"

WEIGHTS: Mapping[str, float] = MappingProxyType({"core": 5.0, "important": 2.0, "bonus": 1.0})
"""Weight of each kind of criterion that is not fatal."""

VERDICT_REWARDS: Mapping[Verdict, float] = MappingProxyType({"good": 1.0, "bad": -1.0, "same": 0.0})

MAX_SCORE = 2
EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion of a judge's reply. ValueError for an unknown kind or a score outside -2 .. 2."""

    kind: str  # "core", "important", "bonus" or "fatal"
    score: float | None  # > 0: the first answer is better; None: the judge gave none

    def __post_init__(self) -> None:
        """Check the two."""
        if self.kind != FATAL and self.kind not in WEIGHTS:
            raise ValueError(f"a criterion of kind {self.kind!r}: it must be one of {[*WEIGHTS, FATAL]}")
        check_finite(f"the score of a {self.kind} criterion", self.score)
        if self.score is not None and abs(self.score) > MAX_SCORE:
            raise ValueError(f"the score of a {self.kind} criterion is {self.score}: it must be in -2 .. 2")


def pair_score(criteria: Sequence[Criterion], min_score: float = 0.0) -> float | None:
    """Return how much better the first answer is, in -2 .. 2 (beyond that with several fatal criteria).

    A result below `min_score` in size is 0. Criteria without a score leave the mean; without a score on a fatal one
    the veto is unknown, and so is the result, as where no criterion has a score (the released code says 0).
    """
    if any(one.kind == FATAL and one.score is None for one in criteria):
        return None
    known = [(one.kind, one.score) for one in criteria if one.score is not None]
    if not known:
        return None
    telling = [(kind, score) for kind, score in known if score != 0]
    fatal = [score for kind, score in telling if kind == FATAL]
    score = sum(fatal) if fatal else _weighted_mean(telling)
    return 0.0 if abs(score) < min_score else float(score)


def bidirectional_verdict(forward: float | None, backward: float | None, margin: float = 0.0) -> Verdict | None:
    """Return whether the first answer is better in both orders; None where either score is missing.

    `forward` is the score with the first answer in the first place, `backward` with it in the second, each as seen
    from its own first place. Better: forward > margin and backward <= -margin; worse: the reverse; otherwise the same.
    ValueError for a negative margin.
    """
    check_finite("margin", margin)
    if margin < 0:
        raise ValueError(f"margin is {margin}: it must be at least 0")
    check_finite("forward", forward)
    check_finite("backward", backward)
    if forward is None or backward is None:
        return None
    if forward > margin and backward <= -margin:
        return "good"
    return "bad" if forward <= -margin and backward > margin else "same"


def mean_verdict(verdicts: Iterable[Verdict | None]) -> float | None:
    """Return an answer's reward, in -1 .. 1: the mean over the opponents it has a verdict against; None without one."""
    return mean_of_known(None if verdict is None else VERDICT_REWARDS[verdict] for verdict in verdicts)


def _weighted_mean(telling: Sequence[tuple[str, float]]) -> float:
    return sum(WEIGHTS[kind] * score for kind, score in telling) / (sum(WEIGHTS[kind] for kind, _ in telling) + EPS)
