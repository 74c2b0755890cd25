"""Drawing tokens: uniform numbers from a request's seed, and the inverse of the cumulative distribution.

A request's tokens depend on its seed and the weights alone, up to floating point: neither the batch it runs in nor the
time it arrives enters.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def uniforms(seed: int, num: int) -> NDArray[np.float64]:
    """Return [num] numbers in [0, 1); a shorter call gives a prefix of a longer one."""
    return np.random.default_rng(np.random.SeedSequence(seed)).random(num)


def sample(
    logits: torch.Tensor, temperatures: NDArray[np.float32], draws: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return one token a row and its log-probability, from logits [rows, vocabulary].

    The log-probability is that of softmax(logits / temperature); temperature 0 takes the likeliest token and gives its
    log-probability at temperature 1. A row whose logits are not finite gets a log-probability that is not finite.
    """
    is_greedy = temperatures == 0
    scaled = logits.float()
    if np.any((temperatures != 1) & ~is_greedy):
        scale = torch.from_numpy(np.where(is_greedy, 1, temperatures).astype(np.float32)).to(logits.device)
        scaled = scaled / scale[:, None]
    logprobs = torch.log_softmax(scaled, dim=-1)
    tokens = logprobs.argmax(-1) if is_greedy.all() else _invert(logprobs, torch.from_numpy(draws).to(logits.device))
    if is_greedy.any() and not is_greedy.all():
        tokens = torch.where(torch.from_numpy(is_greedy).to(logits.device), logprobs.argmax(-1), tokens)
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    return tokens.cpu().numpy(), chosen.cpu().numpy()


def _invert(logprobs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    # float64 sums: in float32 a large vocabulary's tail would be rounded away
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    target = torch.minimum(draws[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return found.clamp_max(logprobs.shape[-1] - 1)  # only for rows that are not finite
