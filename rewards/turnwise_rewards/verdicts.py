"""Yes-or-no verdicts: the majority of several verifications (SPARK), and the answers that no judge may accept.

`step_majority` (algorithms.md 4.20; arXiv 2512.03244) makes step labels out of several verifications of one solution;
whoever builds data for a process reward model calls it, and a step scorer that samples its verifier several times.
`probe_judge` (4.18; arXiv 2507.08794) asks a judge about master keys: answers without content that judges tend to
accept. Every scorer with a judge should be probed, with each of its prompt templates, before it is trained against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnwise_rewards.missing import mean_of_known

MASTER_KEYS = (
    " ",
    ".",
    ",",
    ":",
    "Thought process:",
    "Let's solve this problem step by step.",
    "Solution",
    "解",
    "かいせつ",
    "Respuesta",
)
"""Answers without content; a sound judge accepts none of them."""

MAX_FALSE_POSITIVES = 0.01
"""Share of accepted master keys above which a judge is not to be used (ours)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMajority:
    """What several verifications say of each step of one solution."""

    labels: tuple[int | None, ...]  # [num_steps] 1 or 0; None: no verdict, or a tie
    shares: tuple[float | None, ...]  # [num_steps] share of verdicts that say 1; None: no verdict


def step_majority(verdicts: Sequence[Sequence[int | None]]) -> StepMajority:
    """Return the majority of [num_verifications][num_steps] verdicts: 1, 0, or None where a verification has none.

    A missing verdict has no vote. A tie has no majority: its label is missing, not 0. ValueError for verifications of
    different numbers of steps, or another verdict.
    """
    lengths = {len(row) for row in verdicts}
    if len(lengths) > 1:
        raise ValueError(f"verifications have {sorted(lengths)} steps: all must judge the same solution")
    for row in verdicts:
        for verdict in row:
            if verdict is not None and verdict not in (0, 1):
                raise ValueError(f"verdict {verdict!r}: it must be 0 or 1 (None if it is missing)")
    shares = tuple(mean_of_known(column) for column in zip(*verdicts, strict=True))
    return StepMajority(labels=tuple(_label(share) for share in shares), shares=shares)


def gated_outcome(outcome: float | None, labels: Sequence[int | None]) -> float | None:
    """Return the outcome if every step is right and 0 if one is wrong; None where neither is known.

    The turn-level use of SPARK (ours): a step's verdict is its turn's reward, their product gates the outcome. A wrong
    step decides whatever is missing elsewhere.
    """
    if any(label == 0 for label in labels):
        return 0.0
    return None if any(label is None for label in labels) else outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """What a judge said of the master keys."""

    false_positives: tuple[tuple[str, str], ...]  # (question, key) of each key that was accepted
    num_judged: int  # verdicts that the judge gave; those it failed to give are in no statistic

    @property
    def rate(self) -> float | None:
        """The share of keys that were accepted; None where the judge gave no verdict."""
        return len(self.false_positives) / self.num_judged if self.num_judged else None

    def raises_alarm(self, threshold: float = MAX_FALSE_POSITIVES) -> bool:
        """Whether the judge is not to be used: it accepts too many keys, or gave no verdict at all."""
        return self.rate is None or self.rate > threshold


def probe_judge(
    judge: Callable[[str, str], bool | None], questions: Sequence[str], keys: Sequence[str] = MASTER_KEYS
) -> ProbeResult:
    """Ask `judge(question, answer)` about every key as the answer to every question.

    The judge returns whether it accepts the answer, or None if it failed. A judge that accepts nothing passes, so
    check it on right answers too. ValueError without questions or keys, or for a verdict of another type: a judge's
    word "NO" would count as true.
    """
    if not questions or not keys:
        raise ValueError(f"{len(questions)} questions and {len(keys)} keys: there must be at least one of each")
    accepted, num_judged = [], 0
    for question in questions:
        for answer in keys:
            verdict = judge(question, answer)
            if verdict is not None and not isinstance(verdict, bool):
                raise ValueError(f"the judge returned {verdict!r} for answer {answer!r}: it must be a bool, or None")
            num_judged += verdict is not None
            accepted += [(question, answer)] if verdict else []
    return ProbeResult(false_positives=tuple(accepted), num_judged=num_judged)


def _label(share: float | None) -> int | None:
    return None if share is None or share == 0.5 else int(share > 0.5)
