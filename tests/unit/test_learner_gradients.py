"""Every registered objective: its gradient is that of its loss, and no splitting of a minibatch changes it."""

import dataclasses

import numpy as np
import pytest
import torch
from objective_pieces import CORRECTIONS, OBJECTIVES, Bigram, built, minibatch, near, policy_loss

from turnwise.learner.gradient import Minibatch, accumulate, derivatives, seen, send_back
from turnwise.registry import lookup

PAIRS = [
    (objective, correction)
    for objective in OBJECTIVES
    for correction in CORRECTIONS
    if correction == "none" or lookup("objective", objective).takes_correction
]
WIDE = {"gspo": {"clip_low": 0.2, "clip_high": 0.3}}
"""Options under which some tokens are clipped and some are not."""


def make(objective, correction="none", *, entropy=0.0, **options):
    made = built("objective", objective, entropy=entropy, **(WIDE.get(objective, {}) | options))
    return made, made.correction or built("correction", correction)


def ignore(*_):
    pass


def gradient(policy, loss, batch):
    policy.table.grad = None
    total = accumulate(loss, policy.forward, batch, ignore)
    return float(total), policy.table.grad.clone()


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_is_the_finite_difference_of_the_loss_with_what_is_held_constant(name, kl):
    policy, batch, proximal = near()
    objective, correction = make(name, entropy=0.03, entropy_last=0.01)
    reference = Bigram(3).logprobs(batch)
    loss = policy_loss(objective, 0.05, kl)
    whole = minibatch(objective, correction, batch, proximal, 10_000, lambda _: reference)
    _, found = gradient(policy, loss, whole)
    held, _ = seen(policy.forward, whole)

    def value(table):
        moved = Bigram()
        moved.table = table
        tokens = dataclasses.replace(whole.tokens(slice(None), *seen(moved.forward, whole)), held=held)
        return float(loss(tokens).loss)

    rng = np.random.default_rng(1)
    for _ in range(4):
        direction = torch.tensor(rng.normal(size=found.shape))
        step = 1e-6 * direction
        table = policy.table.detach()
        difference = (value(table + step) - value(table - step)) / 2e-6
        assert difference == pytest.approx(float((found * direction).sum()), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_where_nothing_has_moved_the_gradient_is_the_policy_gradient(name):
    policy, batch, _ = near(away=0.0)
    objective, correction = make(name)
    whole = minibatch(objective, correction, batch, batch.logprobs, 10_000)
    logprobs = seen(policy.forward, whole)[0].requires_grad_()
    _, (by_logprobs, _) = derivatives(
        policy_loss(objective), whole.tokens(slice(None), logprobs, torch.zeros_like(logprobs).requires_grad_())
    )
    expected = -whole.columns["weights"] * whole.columns["advantages"]
    np.testing.assert_allclose(by_logprobs, expected, atol=1e-12)


@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_mean", "turn_mean"])
@pytest.mark.parametrize(("name", "correction"), PAIRS)
def test_micro_batches_add_up_to_the_minibatch(name, correction, aggregate):
    policy, batch, proximal = near()
    objective, factors = make(name, correction, entropy=0.03, aggregate=aggregate)
    loss = policy_loss(objective, 0.05, "k2")
    reference = Bigram(3).logprobs(batch)
    single, whole = (minibatch(objective, factors, batch, proximal, size, lambda _: reference) for size in (1, 10_000))
    assert len(single.micros) == batch.num_rows > len(whole.micros) == 1
    found, expected = (gradient(policy, loss, each) for each in (single, whole))
    assert found[0] == pytest.approx(expected[0], abs=1e-10)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-10)


@pytest.mark.parametrize(("name", "correction"), PAIRS)
def test_rows_shared_by_two_ranks_add_up_to_the_minibatch(name, correction):
    policy, batch, proximal = near()
    objective, factors = make(name, correction, entropy=0.03)
    loss = policy_loss(objective)
    whole = minibatch(objective, factors, batch, proximal, 1)
    _, expected = gradient(policy, loss, whole)
    rows = [np.searchsorted(batch.row_offsets, micro.tokens[0], side="right") - 1 for micro in whole.micros]
    first, second = ([place for place, row in enumerate(rows) if row % 2 == rank] for rank in (0, 1))
    assert batch.row_trajectories[:2].tolist() == [0, 0]  # one trajectory lies with both ranks
    ranks = [share(whole, part) for part in (first, second)]
    policy.table.grad = None
    if objective.is_coupled:
        gathered = [seen(policy.forward, rank) for rank, _ in ranks]
        logprobs, entropies = scattered(gathered, [places for _, places in ranks])
        _, (by_logprobs, by_entropies) = derivatives(loss, whole.tokens(slice(None), logprobs, entropies))
        for rank, places in ranks:
            send_back(policy.forward, rank, by_logprobs[places], by_entropies[places])
    else:
        for rank, _ in ranks:
            accumulate(loss, policy.forward, rank, ignore)
    np.testing.assert_allclose(policy.table.grad, expected, atol=1e-10)


def share(whole, chosen):
    """Return some micro-batches of a minibatch as a rank's own, and where their tokens are among the n."""
    spans = [part for place, (part, _) in enumerate(whole.parts()) if place in chosen]
    places = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    columns = {name: column[places] for name, column in whole.columns.items()}
    return Minibatch(micros=[whole.micros[place] for place in chosen], columns=columns, progress=0.5), places


def scattered(gathered, places):
    found = [torch.zeros(sum(map(len, places)), dtype=torch.float64) for _ in range(2)]
    for pieces, where in zip(gathered, places, strict=True):
        for column, piece in zip(found, pieces, strict=True):
            column[where] = piece
    return [column.requires_grad_() for column in found]


def test_a_micro_batch_alone_would_give_a_coupled_objective_another_gradient():
    policy, batch, proximal = near()
    objective, factors = make("gspo")
    whole = minibatch(objective, factors, batch, proximal, 1)
    _, expected = gradient(policy, policy_loss(objective), whole)
    objective.is_coupled = False
    _, found = gradient(policy, policy_loss(objective), whole)
    assert (found - expected).abs().max() > 1e-4


@pytest.mark.parametrize("correction", [name for name in CORRECTIONS if name != "none"])
def test_a_correction_scales_a_tokens_gradient_after_the_clip_and_leaves_the_denominators(correction):
    policy, batch, proximal = near()
    objective, factors = make("ppo", correction)
    with_it = minibatch(objective, factors, batch, proximal, 10_000)
    without = dataclasses.replace(
        with_it, columns={name: each for name, each in with_it.columns.items() if name != "correction"}
    )
    np.testing.assert_allclose(with_it.columns["weights"], 1 / batch.num_loss_tokens, rtol=1e-6)
    found, plain = (by_logprobs(policy, policy_loss(objective), each) for each in (with_it, without))
    np.testing.assert_allclose(found, plain * with_it.columns["correction"], atol=1e-12)
    assert with_it.columns["correction"].std() > 0.01


def by_logprobs(policy, loss, batch):
    leaves = [each.requires_grad_() for each in seen(policy.forward, batch)]
    return derivatives(loss, batch.tokens(slice(None), *leaves))[1][0]
