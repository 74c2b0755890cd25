"""The numbers of tests/assets/goldens.json for the formulas of rewards and of reward models."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from golden_cases import CLOSE, GOLDENS, covers, expected, inputs
from torch import nn

from turnwise.credit.selections.agent_rlvr import attempts_to_train
from turnwise_rewards.belief import BeliefScores, BeliefWeights, consistency_reward
from turnwise_rewards.connectivity import connected_rubrics, rubric_reward
from turnwise_rewards.implicit import token_gradient, trajectory_scores
from turnwise_rewards.nuggets import VerifierWeights, macro_f1, policy_recall, verifier_reward
from turnwise_rewards.pairwise import WEIGHTS, Criterion, bidirectional_verdict, pair_score
from turnwise_rewards.preference_losses import (
    contrastive,
    cross_entropy,
    detached_dpo,
    trajectory_dpo,
    winner_loser_pairs,
)
from turnwise_rewards.skills import Subgoal, process_reward
from turnwise_rewards.verdicts import MASTER_KEYS, probe_judge, step_majority

BATCH_NAMES = ["A0", "A1", "A2", "B0"]


def istar(name, over_turns):
    """Return Q, the loss and the gradient by token of one of the two iStar cases."""
    given = inputs(name)
    ratios, turn_id = np.asarray(given["token_log_ratio"]), np.asarray(given["turn_id"])
    scores = trajectory_scores(ratios, turn_id, given["beta"], over_turns)
    found = trajectory_dpo(scores, given["success"], given["group"])
    return scores, found, token_gradient(found.coefficients, turn_id, given["beta"], over_turns)


@covers("istar_prm_dpo_sum", "istar_prm_dpo_mean")
@pytest.mark.parametrize("over_turns", ["sum", "mean"])
def test_trajectory_dpo_of_both_forms_is_that_of_the_goldens(over_turns):
    wanted = expected(f"istar_prm_dpo_{over_turns}")
    scores, found, gradient = istar(f"istar_prm_dpo_{over_turns}", over_turns)
    np.testing.assert_allclose(scores, wanted["traj_score"], **CLOSE)
    assert found.loss == pytest.approx(wanted["loss"], abs=CLOSE["atol"], rel=0)
    np.testing.assert_allclose(gradient, wanted["grad_token_log_ratio"], **CLOSE)
    given = inputs(f"istar_prm_dpo_{over_turns}")
    pairs = winner_loser_pairs(given["success"], given["group"])
    assert [[BATCH_NAMES[i], BATCH_NAMES[j]] for i, j in pairs] == wanted["pairs"]


def test_our_trajectory_dpo_is_the_papers_sum_and_not_the_released_mean():
    given = inputs("istar_prm_dpo_sum")
    scores = trajectory_scores(np.asarray(given["token_log_ratio"]), np.asarray(given["turn_id"]), given["beta"])
    found = trajectory_dpo(scores, given["success"], given["group"])
    assert found.loss == pytest.approx(expected("istar_prm_dpo_sum")["loss"], abs=CLOSE["atol"], rel=0)
    assert abs(found.loss - expected("istar_prm_dpo_mean")["loss"]) > 1e-3  # not this


@covers("prime_ce_loss")
def test_cross_entropy_is_that_of_the_goldens():
    given, wanted = inputs("prime_ce_loss"), expected("prime_ce_loss")
    scores = trajectory_scores(np.asarray(given["token_log_ratio"]), np.asarray(given["mask"], int) - 1, given["beta"])
    np.testing.assert_allclose(scores, wanted["score"], **CLOSE)
    found = cross_entropy(scores, given["success"])
    assert found.loss == pytest.approx(wanted["loss"], abs=CLOSE["atol"], rel=0)


@covers("prime_detach_dpo")
def test_detached_dpo_is_that_of_the_goldens():
    given, wanted = inputs("prime_detach_dpo"), expected("prime_detach_dpo")
    scores = trajectory_scores(np.asarray(given["token_log_ratio"]), np.asarray(given["mask"], int) - 1, given["beta"])
    found = detached_dpo(scores, given["success"], given["group"])
    np.testing.assert_allclose(found.terms, wanted["per_sample"], **CLOSE)
    assert found.loss == pytest.approx(wanted["loss"], abs=CLOSE["atol"], rel=0)


@covers("cooper_rm_loss")
def test_contrastive_is_that_of_the_goldens_but_for_the_eps_of_the_released_code():
    given = inputs("cooper_rm_loss")
    found = contrastive(given["pos"], given["neg"], given["valid"])
    num_valid = sum(given["valid"])
    released = found.loss * num_valid / (num_valid + 1e-6)
    assert released == pytest.approx(expected("cooper_rm_loss")["loss"], abs=CLOSE["atol"], rel=0)


class ToyRewardModel(nn.Module):
    """Log-probabilities of 5 possible tokens by position, as a reward model would give them."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 5, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-0.7, 0.9, 15).reshape(5, 3))
            self.linear.bias.copy_(torch.linspace(0.3, -0.2, 5))

    def forward(self, features, tokens):
        logprobs = self.linear(features).log_softmax(-1)
        return logprobs.gather(-1, tokens[..., None])[..., 0]


@pytest.fixture
def toy():
    """Return the model, its features, tokens, the reference's log-probabilities, and the golden batch's layout."""
    given = inputs("istar_prm_dpo_sum")
    turn_id = np.asarray(given["turn_id"])
    grid = torch.arange(turn_id.size * 3, dtype=torch.float64).reshape(*turn_id.shape, 3)
    features, tokens = torch.sin(grid), (grid[..., 0].long() * 7) % 5
    return ToyRewardModel(), features, tokens, torch.full(turn_id.shape, -1.6, dtype=torch.float64), turn_id, given


def torch_dpo(log_ratios, turn_id, given):
    """Return the same loss as torch sees it, in one graph over the whole batch."""
    scores = given["beta"] * (log_ratios * torch.as_tensor(turn_id >= 0)).sum(1)
    pairs = winner_loser_pairs(given["success"], given["group"])
    return -torch.nn.functional.logsigmoid(scores[pairs[:, 0]] - scores[pairs[:, 1]]).mean()


def gradient_of(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def two_passes(model, features, tokens, reference, turn_id, given):
    """Do what `preference_losses` says: scores without gradients, then one backward pass a row."""
    with torch.no_grad():
        log_ratios = model(features, tokens) - reference
    scores = trajectory_scores(log_ratios.numpy(), turn_id, given["beta"])
    found = trajectory_dpo(scores, given["success"], given["group"])
    for i in range(len(turn_id)):
        row = (model(features[i], tokens[i]) - reference[i])[torch.as_tensor(turn_id[i] >= 0)]
        (found.coefficients[i] * given["beta"] * row.sum()).backward()
    return found


def test_two_passes_in_micro_batches_give_the_gradient_of_the_whole_batch(toy):
    model, features, tokens, reference, turn_id, given = toy
    found = two_passes(*toy)
    in_parts = gradient_of(model).clone()
    model.zero_grad()
    whole = torch_dpo(model(features, tokens) - reference, turn_id, given)
    whole.backward()
    assert found.loss == pytest.approx(whole.item(), abs=1e-12)
    assert in_parts.abs().max() > 1e-3
    torch.testing.assert_close(in_parts, gradient_of(model), rtol=0, atol=1e-12)


def test_a_toy_reward_model_moves_under_two_passes_and_its_loss_falls(toy):
    model, before = toy[0], [parameter.detach().clone() for parameter in toy[0].parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(two_passes(*toy).loss)
        optimizer.step()
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert any((old != new).any() for old, new in zip(before, model.parameters(), strict=True))


def test_the_released_loss_on_a_detached_copy_never_reaches_the_model(toy):
    model, features, tokens, reference, turn_id, given = toy
    leaf = (model(features, tokens) - reference).detach().requires_grad_()
    torch_dpo(leaf, turn_id, given).backward()
    assert leaf.grad.abs().max() > 0  # the loss has a gradient, it only stops here
    assert all(parameter.grad is None for parameter in model.parameters())
    released = GOLDENS["istar_detached_q_experiment"]
    assert released["update_rm_eto"]["metrics"]["reward_model/grad_norm"] == [0.0]
    assert (released["update_rm_eto"]["weight_moved"], released["update_rm"]["weight_moved"]) == (False, True)


@covers("carr_bfs", "carr_bfs_bridge")
@pytest.mark.parametrize("name", ["carr_bfs", "carr_bfs_bridge"])
def test_connectivity_is_that_of_the_goldens(name):
    given, wanted = inputs(name), expected(name)
    assert list(connected_rubrics(given["rubric_entities"], given["supported"])) == wanted["connected"]
    found = rubric_reward(given["rubric_entities"], given["supported"])
    assert found == pytest.approx(wanted["rubric_reward"], abs=CLOSE["atol"], rel=0)


def test_connectivity_pays_less_than_the_ablation_that_counts_every_supported_rubric():
    given, ablation = inputs("carr_bfs"), expected("carr_bfs")["no_bfs_ablation"]
    assert np.mean(list(given["supported"].values())) == pytest.approx(ablation, abs=CLOSE["atol"], rel=0)
    assert rubric_reward(given["rubric_entities"], given["supported"]) < ablation - 0.5  # not this


@covers("rebel_rcons")
def test_the_consistency_reward_is_that_of_the_goldens():
    given = inputs("rebel_rcons")
    scores = BeliefScores(state=given["r_state"], task=given["r_task"], prediction=given["r_pred"])
    names = ("state", "task", "prediction", "format")
    weights = BeliefWeights(**dict(zip(names, given["weights"], strict=True)))
    assert weights == BeliefWeights()
    found = consistency_reward(scores, given["r_format"], weights)
    assert found == pytest.approx(expected("rebel_rcons")["r_cons"], abs=CLOSE["atol"], rel=0)


@covers("openrs_pair", "openrs_fatal")
@pytest.mark.parametrize("name", ["openrs_pair", "openrs_fatal"])
def test_the_pair_score_is_that_of_the_goldens(name):
    given = inputs(name)
    assert all(WEIGHTS[kind] == weight for kind, weight, _ in given["criteria"])
    criteria = [Criterion(kind, score) for kind, _, score in given["criteria"]]
    criteria += [Criterion("fatal", score) for score in given["fatal"]]
    assert pair_score(criteria) == pytest.approx(expected(name)["score"], abs=CLOSE["atol"], rel=0)


@covers("openrs_bidirectional")
def test_bidirectional_verdicts_are_those_of_the_goldens():
    given = inputs("openrs_bidirectional")
    found = [bidirectional_verdict(f, b, given["min_margin"]) for f, b in given["pairs"]]
    assert found == expected("openrs_bidirectional")["verdict"]


@covers("search_gen_v")
def test_the_nugget_verifiers_reward_is_that_of_the_goldens():
    given, wanted = inputs("search_gen_v"), expected("search_gen_v")
    names = {"f1": "f1", "exact": "exact", "reasoning": "reasoning", "fmt": "output"}
    weights = VerifierWeights(**{names[key]: value for key, value in given["weights"].items()})
    assert weights == VerifierWeights()
    assert given["reasoning_ok"]
    assert given["format_ok"]
    assert macro_f1(given["pred"], given["gold"]) == pytest.approx(wanted["macro_f1"], abs=CLOSE["atol"], rel=0)
    found = verifier_reward(given["pred"], given["gold"], weights=weights)
    assert found == pytest.approx(wanted["reward"], abs=CLOSE["atol"], rel=0)
    assert found == pytest.approx(0.35 * macro_f1(given["pred"], given["gold"]) + 0.35 * wanted["exact"] + 0.3)


@covers("search_gen_v_policy")
def test_the_policys_nugget_recall_is_that_of_the_goldens():
    given = inputs("search_gen_v_policy")
    wanted = expected("search_gen_v_policy")["reward"]
    assert policy_recall(given["label"], given["value"]) == policy_recall(given["label"]) == wanted


@covers("spark_step_majority")
def test_the_step_majority_is_that_of_the_goldens():
    wanted = expected("spark_step_majority")
    found = step_majority(inputs("spark_step_majority")["verdicts"])
    assert list(found.labels) == wanted["majority"]
    np.testing.assert_allclose(found.shares, wanted["step_prob"], **CLOSE)


@covers("one_token_masterkeys")
def test_the_master_keys_are_those_of_the_goldens_and_each_that_a_judge_accepts_is_named():
    keys = inputs("one_token_masterkeys")["keys"]
    assert list(MASTER_KEYS) == keys
    assert expected("one_token_masterkeys")["required_judge_verdict"] == "NO for every key"
    sound = probe_judge(lambda question, answer: False, ["2 + 2?"])
    assert (sound.false_positives, sound.rate, sound.raises_alarm()) == ((), 0.0, False)
    fooled = probe_judge(lambda question, answer: True, ["2 + 2?"])
    assert fooled.false_positives == tuple(("2 + 2?", key) for key in keys)
    assert fooled.raises_alarm()


@covers("scribe")
def test_the_process_reward_of_subgoals_is_that_of_the_goldens():
    assert (
        process_reward([Subgoal(**one) for one in inputs("scribe")["subgoals"]])
        == (expected("scribe")["process_reward"])
    )


@covers("agent_rlvr")
def test_the_attempts_to_train_on_are_those_of_the_goldens():
    given, wanted = inputs("agent_rlvr"), expected("agent_rlvr")
    found = attempts_to_train(given["first_attempt"], given["guided_attempt"])
    assert [f"{one.group}#{one.task}" for one in found] == wanted["train_on"]
    assert [one.reward for one in found] == wanted["reward"]
