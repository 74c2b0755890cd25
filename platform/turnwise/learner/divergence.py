"""Estimators of the KL divergence from samples (algorithms.md 3.10): with d = lp - lp_other, sampled from lp.

k1 = d is unbiased and noisy, k2 = d^2 / 2 is biased and calm, k3 = exp(-d) - 1 + d is unbiased and never negative.
That is said of the values. As a term of the loss, on tokens sampled from lp itself, k1's gradient is zero in the mean,
k2's is that of KL(pi, other), and k3's that of KL(other, pi).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

MAX_K3 = 10.0
"""k3 is clamped to this in size."""


def k1(logprobs: Tensor, other: Tensor) -> Tensor:
    """Return d, of the inputs' shape."""
    return logprobs - other


def k2(logprobs: Tensor, other: Tensor) -> Tensor:
    """Return d^2 / 2, of the inputs' shape."""
    return (logprobs - other).square() / 2


def k3(logprobs: Tensor, other: Tensor) -> Tensor:
    """Return exp(-d) - 1 + d, of the inputs' shape."""
    d = (logprobs - other).clamp(-20.0, 20.0)
    return ((-d).expm1() + d).clamp(-MAX_K3, MAX_K3)


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
