"""Shapings of a reward by what a trajectory looks like: its length, its attempts. Pure functions.

`overlong_penalty` is what the fusion `overlong` uses. The other two need the answers as texts, which credit does not
see: they are for whoever scores an environment of repeated attempts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnwise.credit import Array


def overlong_penalty(lengths: Array, max_tokens: int, buffer: int, factor: float, is_bounded: bool) -> Array:
    """Return DAPO's soft penalty of each length (arXiv 2503.14476, equation 13), from 0 down to -factor.

    0 up to max_tokens - buffer, -factor (length - (max_tokens - buffer)) / buffer from there on. Not bounded, it falls
    on behind max_tokens, as in the released code; the paper's ends at -factor.
    """
    excess = (lengths - (max_tokens - buffer)) / buffer
    return -factor * np.clip(excess, 0.0, 1.0 if is_bounded else np.inf)


def attempt_reward(solved_at: int | None, gamma: float = 0.5) -> float:
    """Return UFO's reward of a success at an attempt, counted from 1: gamma^(t - 1); None: never solved, 0.

    arXiv 2507.14295; algorithms.md 4.11.
    """
    return 0.0 if solved_at is None else float(gamma ** (solved_at - 1))


def repetition_penalty(answers: Sequence[str], lam: float = 0.5) -> float:
    """Return what UFO subtracts once, at the end, for repeated answers: lam (1 - distinct / number of answers).

    Answers are equal if they are but for case and white space; 0 without any.
    """
    if not answers:
        return 0.0
    distinct = {" ".join(answer.lower().split()) for answer in answers}
    return lam * (1.0 - len(distinct) / len(answers))
