"""UFO: repeated attempts at one question (algorithms.md 4.11; arXiv 2507.14295).

After a wrong answer the environment says no more than that it is wrong. Such environments, and scorers of others, call
these: a success is worth less the later it comes, and an answer that was given before costs something.
"""

from __future__ import annotations

from collections.abc import Sequence


def attempt_reward(solved_at: int | None, gamma: float = 0.5) -> float:
    """Return UFO's reward of a success at an attempt, counted from 1: gamma^(t - 1); None: never solved, 0."""
    return 0.0 if solved_at is None else float(gamma ** (solved_at - 1))


def repetition_penalty(answers: Sequence[str], lam: float = 0.5) -> float:
    """Return what UFO subtracts once, at the end, for repeated answers: lam (1 - distinct / number of answers).

    Answers are equal if they are but for case and white space; 0 without any.
    """
    if not answers:
        return 0.0
    distinct = {normalise(answer) for answer in answers}
    return lam * (1.0 - len(distinct) / len(answers))


def normalise(answer: str) -> str:
    """Return what two answers have in common that are equal but for case and white space."""
    return " ".join(answer.lower().split())
