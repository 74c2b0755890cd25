"""Search-Gen-V: rewards from nuggets, the facts that a good answer must hold (algorithms.md 4.15; arXiv 2510.14660).

Two rewards for two models. `verifier_reward` trains the small model that labels nuggets, against a strong model's
labels. `policy_recall` rewards a search policy by the labels that a verifier gave its answer; its values are ours.

A scorer that hosts a verifier will call `policy_recall`; the verifier's own training task `verifier_reward`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from turnwise_rewards.missing import check_finite, mean_of_known

LABELS = ("support", "partial_support", "not_support")

RECALL_VALUES: Mapping[str, float] = MappingProxyType({"support": 1.0, "partial_support": 0.5, "not_support": 0.0})
"""What a nugget with each label is worth in `policy_recall`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifierWeights:
    """The parts of the verifier's reward, as published; they sum to 1."""

    f1: float = 0.35
    exact: float = 0.35
    reasoning: float = 0.2
    output: float = 0.1


def macro_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Return the mean F1 of the three labels; a label that neither side uses has F1 = 1, as in the released code.

    So an answer that is wrong everywhere still has up to 2/3 where labels go unused. A prediction that is none of the
    labels is a wrong one. ValueError for lists of different lengths, empty ones, or an unknown gold label.
    """
    _check_gold(gold)
    if len(predicted) != len(gold) or not gold:
        raise ValueError(f"{len(predicted)} predicted and {len(gold)} gold labels: both must be as many, at least one")
    return math.fsum(_f1(label, predicted, gold) for label in LABELS) / len(LABELS)


def verifier_reward(
    predicted: Sequence[str],
    gold: Sequence[str | None],
    *,
    num_reasoning_blocks: int = 1,
    is_output_valid: bool = True,
    weights: VerifierWeights | None = None,
) -> float | None:
    """Return w_f1 macroF1 + w_exact [all equal] + w_reasoning [one block] + w_output [valid form].

    0 for what the verifier got wrong as a whole: another number of labels than nuggets, a macro F1 of 0, or more than
    one reasoning block. A gold label of None (its own judge failed) leaves with its prediction; None where all leave.
    """
    weights = weights or VerifierWeights()
    _check_gold(gold)
    if all(label is None for label in gold):
        return None
    if len(predicted) != len(gold) or num_reasoning_blocks > 1:
        return 0.0
    kept = [(guess, label) for guess, label in zip(predicted, gold, strict=True) if label is not None]
    guesses, labels = [guess for guess, _ in kept], [label for _, label in kept]
    f1 = macro_f1(guesses, labels)
    if f1 == 0.0:
        return 0.0
    form = weights.reasoning * (num_reasoning_blocks == 1) + weights.output * is_output_valid
    return weights.f1 * f1 + weights.exact * (guesses == labels) + form


def policy_recall(labels: Sequence[str | None], values: Mapping[str, float] = RECALL_VALUES) -> float | None:
    """Return the mean worth of the nuggets that were labelled; None where none was.

    ValueError for a label without a value: a verifier's reply that could not be read is None, not a word of its own.
    """
    for name, value in values.items():
        check_finite(f"the value of {name!r}", value)
    for label in labels:
        if label is not None and label not in values:
            raise ValueError(f"label {label!r} is none of {sorted(values)} (None if it is missing)")
    return mean_of_known(None if label is None else values[label] for label in labels)


def _f1(label: str, predicted: Sequence[str], gold: Sequence[str]) -> float:
    hits = sum(guess == label == true for guess, true in zip(predicted, gold, strict=True))
    uses = sum(guess == label for guess in predicted) + sum(true == label for true in gold)
    return 2.0 * hits / uses if uses else 1.0


def _check_gold(gold: Sequence[str | None]) -> None:
    for label in gold:
        if label is not None and label not in LABELS:
            raise ValueError(f"gold label {label!r} is none of {list(LABELS)} (None if it is missing)")
