"""The policy objective beyond the goldens: additivity, gradients, and what a masked or clipped token contributes."""

import dataclasses

import numpy as np
import pytest
import torch

from turnwise.errors import UserError
from turnwise.learner import ActionTokens
from turnwise.learner.objectives.aggregate import AGGREGATES, token_weights
from turnwise.learner.objectives.ppo import Ppo, PpoConfig

TRAJECTORIES = np.asarray([0, 0, 0, 2, 2, 5])
TURNS = np.asarray([0, 1, 1, 2, 3, 4])


def tokens(logprobs, sampler, advantages, entropies=None, weights=None):
    n = len(sampler)
    tensor = [torch.as_tensor(x, dtype=torch.float64) for x in (sampler, advantages)]
    return ActionTokens(
        logprobs=logprobs,
        held=logprobs.detach(),
        entropies=entropies if entropies is not None else torch.zeros(n, dtype=torch.float64),
        sampler=tensor[0],
        base=tensor[0],
        advantages=tensor[1],
        trajectories=torch.zeros(n, dtype=torch.int64),
        turns=torch.zeros(n, dtype=torch.int64),
        weights=torch.as_tensor(np.full(n, 1 / n) if weights is None else weights, dtype=torch.float64),
    )


def leaf(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_weights_of_each_aggregate():
    assert token_weights(TRAJECTORIES, TURNS, "token_mean").tolist() == pytest.approx([1 / 6] * 6)
    assert token_weights(TRAJECTORIES, TURNS, "seq_mean_token_sum").tolist() == pytest.approx([1 / 3] * 6)
    expected = [1 / 9] * 3 + [1 / 6] * 2 + [1 / 3]
    assert token_weights(TRAJECTORIES, TURNS, "seq_mean_token_mean").tolist() == pytest.approx(expected)
    expected = [1 / 5, 1 / 10, 1 / 10, 1 / 5, 1 / 5, 1 / 5]
    assert token_weights(TRAJECTORIES, TURNS, "turn_mean").tolist() == pytest.approx(expected)
    norm = token_weights(TRAJECTORIES, TURNS, "seq_mean_token_sum_norm", 8)
    assert norm.tolist() == pytest.approx([1 / 24] * 6)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_micro_batches_add_up_to_the_minibatch(aggregate):
    rng = np.random.default_rng(0)
    new, old, advantages = rng.normal(size=(3, 6))
    weights = token_weights(TRAJECTORIES, TURNS, aggregate)
    objective = Ppo(PpoConfig(aggregate=aggregate, entropy=0.1))

    def loss(part):
        entropies = torch.as_tensor(np.abs(new[part]))
        logprobs = torch.as_tensor(new[part])
        return float(objective.loss(tokens(logprobs, old[part], advantages[part], entropies, weights[part])).loss)

    assert loss(slice(0, 2)) + loss(slice(2, 6)) == pytest.approx(loss(slice(0, 6)), rel=1e-12)


def test_at_ratio_one_the_gradient_is_the_policy_gradient():
    new = leaf([-1.0, -2.0])
    Ppo(PpoConfig()).loss(tokens(new, [-1.0, -2.0], [3.0, -0.5])).loss.backward()
    assert new.grad.tolist() == pytest.approx([-1.5, 0.25])


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "flows"),
    [
        (0.1, 1.0, True),
        (0.5, 1.0, False),
        (-0.5, 1.0, True),
        (0.5, -1.0, True),
        (-0.5, -1.0, False),
        (2.0, -1.0, False),
    ],
)
def test_clipping_stops_the_gradient_only_where_the_ratio_has_gone_far_enough(log_ratio, advantage, flows):
    new = leaf([log_ratio])
    result = Ppo(PpoConfig()).loss(tokens(new, [0.0], [advantage]))
    result.loss.backward()
    assert bool(new.grad[0] != 0) is flows
    assert bool(result.per_token["clip_fraction"][0]) is not flows


def test_absurd_ratios_stay_finite():
    new = leaf([5000.0, -5000.0])
    result = Ppo(PpoConfig(dual_clip=0.0)).loss(tokens(new, [0.0, 0.0], [-1.0, -1.0]))
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(new.grad).all()


def test_the_entropy_bonus_lowers_the_loss():
    entropies = leaf([1.0, 3.0])
    objective = Ppo(PpoConfig(entropy=0.5))
    result = objective.loss(tokens(leaf([0.0, 0.0]), [0.0, 0.0], [0.0, 0.0], entropies))
    result.loss.backward()
    assert result.loss.item() == pytest.approx(-1.0)
    assert entropies.grad.tolist() == pytest.approx([-0.25, -0.25])
    assert objective.needs_entropy


@pytest.mark.parametrize(("progress", "coefficient"), [(0.0, 0.5), (0.5, 0.3), (1.0, 0.1)])
def test_the_entropy_bonus_may_fall_to_its_last_value(progress, coefficient):
    objective = Ppo(PpoConfig(entropy=0.5, entropy_last=0.1))
    given = tokens(leaf([0.0]), [0.0], [0.0], leaf([2.0]))
    assert objective.loss(dataclasses.replace(given, progress=progress)).loss.item() == pytest.approx(-2 * coefficient)


def test_a_dual_clip_that_would_cut_into_the_clip_is_refused():
    with pytest.raises(UserError, match=r"learner.objective.dual_clip=0.5"):
        Ppo(PpoConfig(dual_clip=0.5))
