"""Law 5: credit is unbiased when turn counts differ. Exact: every group that can occur, with its probability.

The process: at turn k the policy stops with probability sigmoid(theta_k), else it goes on, at most three turns; going
on pays a turn reward, and how long it went decides the outcome.
"""

import itertools

import numpy as np
import pytest
from credit_pieces import rewards

from turnwise.credit.baseline import group_codes, group_sum
from turnwise.credit.estimators.dr_grpo import DrGrpo, DrGrpoConfig
from turnwise.credit.estimators.grpo import Grpo, GrpoConfig
from turnwise.credit.estimators.grpo_turn import GrpoTurn, GrpoTurnConfig
from turnwise.credit.estimators.rloo import Rloo, RlooConfig
from turnwise.credit.estimators.state_gae import StateGae, StateGaeConfig
from turnwise.credit.estimators.trloo import Trloo, TrlooConfig
from turnwise.credit.estimators.turn_loo import TurnLoo, TurnLooConfig
from turnwise.credit.estimators.turnwise import Turnwise, TurnwiseConfig
from turnwise.credit.returns import turn_returns

THETA = np.asarray([-0.3, 0.4, 0.2])
PATHS = [(1,), (0, 1), (0, 0, 1), (0, 0, 0)]  # 1: stop
TURN_REWARD = [(0.0,), (0.3, 0.0), (0.3, -0.2, 0.5), (0.3, -0.2, 0.1)]
OUTCOME = [0.2, 1.0, -0.4, 2.0]
GROUP_SIZE = 3


def stop_probabilities():
    return 1.0 / (1.0 + np.exp(-THETA))


def probability(path):
    stops = stop_probabilities()
    return np.prod([stops[k] if action else 1 - stops[k] for k, action in enumerate(path)])


def score_function(path):
    """d log p(action k) / d theta_k by turn."""
    stops = stop_probabilities()
    return np.asarray([action - stops[k] for k, action in enumerate(path)] + [0.0] * (3 - len(path)))


def true_gradient():
    total = [sum(r) + o for r, o in zip(TURN_REWARD, OUTCOME, strict=True)]
    return sum(probability(p) * value * score_function(p) for p, value in zip(PATHS, total, strict=True))


def expected_gradient(estimate, key="turn {}"):
    """Of one trajectory, over all groups of `GROUP_SIZE`; `key` makes a state's name of its turn."""
    groups = list(itertools.product(range(len(PATHS)), repeat=GROUP_SIZE))
    members = [member for group in groups for member in group]
    batch = rewards(
        np.repeat(np.arange(len(groups)), GROUP_SIZE).astype(str),
        [TURN_REWARD[member] for member in members],
        [OUTCOME[member] for member in members],
        state_keys=[[key.format(k) for k in range(len(PATHS[member]))] for member in members],
    )
    advantages = estimate(batch).reshape(len(groups), GROUP_SIZE, 3)
    weights = np.asarray([np.prod([probability(PATHS[member]) for member in group]) for group in groups])
    scores = np.asarray([[score_function(PATHS[member]) for member in group] for group in groups])
    return np.einsum("g,gik,gik->k", weights, advantages, scores) / GROUP_SIZE


def survivors_mean_with_self(batch):
    """The biased alternative: by turn index, minus the mean over all members that got there (CM2)."""
    returns, _ = turn_returns(batch, "x", 1.0)
    sums, counts = group_sum(returns, batch.turn_exists, group_codes(batch.group))
    return np.where(batch.turn_exists, returns - sums / np.maximum(counts, 1), 0.0)


UNBIASED = {
    "turn_loo": TurnLoo(TurnLooConfig()),
    "rloo": Rloo(RlooConfig()),
    "trloo, raw return of a lone survivor": Trloo(TrlooConfig(singleton="raw")),
    "state_gae, all later rewards": StateGae(StateGaeConfig(lam=1.0)),
    "turnwise": Turnwise(TurnwiseConfig()),
    "turnwise, its own later rewards": Turnwise(TurnwiseConfig(lookahead="own")),
    "turnwise, states of any turn": Turnwise(TurnwiseConfig(match="state")),
}


@pytest.mark.parametrize("estimator", UNBIASED.values(), ids=UNBIASED)
def test_the_expected_gradient_is_the_true_one(estimator):
    found = expected_gradient(lambda batch: estimator.estimate(batch).values)
    np.testing.assert_allclose(found, true_gradient(), atol=1e-12)


def test_keys_that_do_not_say_how_many_turns_are_left_bias_what_is_pooled_over_turns_alone():
    by_turn, by_state = (Turnwise(TurnwiseConfig(match=match)) for match in ("turn", "state"))
    found = expected_gradient(lambda batch: by_turn.estimate(batch).values, key="always the same")
    np.testing.assert_allclose(found, true_gradient(), atol=1e-12)
    found = expected_gradient(lambda batch: by_state.estimate(batch).values, key="always the same")
    assert np.abs(found - true_gradient()).max() > 0.01


@pytest.mark.parametrize(
    "estimate",
    [
        survivors_mean_with_self,
        lambda batch: Grpo(GrpoConfig()).estimate(batch).values,
        lambda batch: GrpoTurn(GrpoTurnConfig()).estimate(batch).values,
        lambda batch: Trloo(TrlooConfig()).estimate(batch).values,
    ],
    ids=["survivors_mean_with_self", "grpo", "grpo_turn", "trloo without lone survivors"],
)
def test_self_inclusive_baselines_fail_the_same_test(estimate):
    found, true = expected_gradient(estimate), true_gradient()
    assert np.abs(found - true).max() > 0.02
    # not only a scale: the ratio differs between turns
    assert np.ptp(found / true) > 0.05


def test_dr_grpo_is_the_true_gradient_but_for_one_factor():
    found = expected_gradient(lambda batch: DrGrpo(DrGrpoConfig()).estimate(batch).values)
    np.testing.assert_allclose(found, true_gradient() * (GROUP_SIZE - 1) / GROUP_SIZE, atol=1e-12)


def test_turn_loo_has_less_variance_than_rloo_when_turn_rewards_matter():
    variances = {}
    rng = np.random.default_rng(0)
    members = rng.choice(len(PATHS), p=[probability(p) for p in PATHS], size=(4000, GROUP_SIZE))
    flat = members.reshape(-1)
    # a reward of the first turn that later actions cannot influence
    noise = np.random.default_rng(1).normal(size=len(flat))
    turns = [[TURN_REWARD[m][0] + x, *TURN_REWARD[m][1:]] for m, x in zip(flat, noise, strict=True)]
    batch = rewards(np.repeat(np.arange(4000), GROUP_SIZE).astype(str), turns, [OUTCOME[m] for m in flat])
    scores = np.asarray([score_function(PATHS[m]) for m in flat])
    for name, estimator in (("turn_loo", TurnLoo(TurnLooConfig())), ("rloo", Rloo(RlooConfig()))):
        variances[name] = (estimator.estimate(batch).values * scores).var(axis=0)
    assert (variances["turn_loo"][1:] < 0.8 * variances["rloo"][1:]).all()
