"""Tokens are drawn from the distribution that their log-probabilities state."""

from __future__ import annotations

import numpy as np
import torch

from turnwise.engine.sampling import sample, uniforms


def test_uniforms_are_a_function_of_the_seed_and_prefixes_agree() -> None:
    assert np.array_equal(uniforms(7, 3), uniforms(7, 9)[:3])
    assert not np.array_equal(uniforms(7, 3), uniforms(8, 3))
    expected = np.random.default_rng(np.random.SeedSequence(7)).random(3)
    assert np.array_equal(uniforms(7, 3), expected)


def test_the_inverse_of_the_cumulative_distribution_is_exact_at_its_steps() -> None:
    probabilities = np.array([0.1, 0.0, 0.4, 0.3, 0.2, 0.0])
    with np.errstate(divide="ignore"):
        logits = torch.from_numpy(np.log(probabilities)).float().expand(5, -1)
    draws = np.array([0.0, 0.099, 0.101, 0.79, 1 - 2.0**-53])
    tokens, _ = sample(logits, np.ones(5, np.float32), draws)
    assert tokens.tolist() == [0, 0, 2, 3, 4], "a token of probability 0 is never drawn"


def test_samples_follow_the_distribution_by_chi_square() -> None:
    num, temperature = 20_000, 0.7
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.0])
    expected = torch.softmax(logits / temperature, -1).double().numpy()
    draws = np.concatenate([uniforms(seed, 10) for seed in range(num // 10)])
    tokens, logprobs = sample(logits.expand(num, -1), np.full(num, temperature, np.float32), draws)
    counts = np.bincount(tokens, minlength=5)
    assert ((counts - num * expected) ** 2 / (num * expected)).sum() < 18.5  # 99.9 % point of 4 degrees of freedom
    assert np.allclose(logprobs, np.log(expected)[tokens], atol=1e-6)


def test_temperature_zero_takes_the_likeliest_and_reports_temperature_one() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    tokens, logprobs = sample(logits, np.array([0.0, 2.0], np.float32), np.array([0.99, 0.99]))
    assert tokens.tolist() == [1, 2]
    expected = [torch.log_softmax(logits[0], -1)[1], torch.log_softmax(logits[0] / 2, -1)[2]]
    assert np.allclose(logprobs, expected, atol=1e-6)


def test_logits_that_are_not_finite_show_in_the_log_probability() -> None:
    logits = torch.tensor([[1.0, float("nan")], [float("inf"), 0.0], [0.0, 0.0]])
    for temperature in (0.0, 1.0):
        _, logprobs = sample(logits, np.full(3, temperature, np.float32), np.full(3, 0.5))
        assert np.isfinite(logprobs).tolist() == [False, False, True]
