"""The formulas of rewards at their edges: nothing to compare, missing verdicts, wrong data."""

import subprocess
import sys

import numpy as np
import pytest

from turnwise.credit.selections.agent_rlvr import Attempt, attempts_to_train
from turnwise_rewards.belief import BeliefScores, BeliefWeights, consistency_reward
from turnwise_rewards.connectivity import connected_rubrics, first_evidence, rubric_reward, turn_credit
from turnwise_rewards.implicit import token_gradient, trajectory_scores, turn_rewards
from turnwise_rewards.missing import mean_of_known
from turnwise_rewards.nuggets import macro_f1, policy_recall, verifier_reward
from turnwise_rewards.pairwise import Criterion, bidirectional_verdict, mean_verdict, pair_score
from turnwise_rewards.preference_losses import (
    contrastive,
    cross_entropy,
    detached_dpo,
    trajectory_dpo,
    winner_loser_pairs,
)
from turnwise_rewards.skills import Subgoal, process_reward, turn_scores
from turnwise_rewards.verdicts import gated_outcome, probe_judge, step_majority

MODULES = "belief connectivity implicit missing nuggets pairwise preference_losses skills verdicts"

SCORES = np.asarray([0.3, -0.2, 0.7, -1.1, 0.4, 0.9])
OUTCOMES = np.asarray([1.0, 0.0, 0.5, -1.0, 1.0, 0.0])
GROUP = ["a", "a", "a", "a", "b", "b"]
LABELS = (OUTCOMES > 0).astype(float)

TURN_ID = np.asarray([[0, 0, -1, 1], [0, -1, -1, -1], [0, 1, 2, -1]])
RATIOS = np.asarray([[0.2, -0.4, 99.0, 1.0], [0.5, np.nan, 0.0, 0.0], [1.0, 2.0, -4.0, np.inf]])


def test_the_formulas_load_neither_torch_nor_ray():
    code = (
        "import importlib, sys\n"
        f"for name in '{MODULES}'.split(): importlib.import_module('turnwise_rewards.' + name)\n"
        "print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def slope(loss, scores, step=1e-6):
    """Return the central difference of a loss by each score."""
    steps = step * np.eye(len(scores))
    return np.asarray([(loss(scores + one) - loss(scores - one)) / (2 * step) for one in steps])


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: trajectory_dpo(scores, OUTCOMES, GROUP),
        lambda scores: trajectory_dpo(scores, OUTCOMES, GROUP, known=[1, 1, 0, 1, 1, 1]),
        lambda scores: cross_entropy(scores, LABELS),
        lambda scores: cross_entropy(scores, [0.2, 1.0, 0.0, 0.5, 0.0, 0.9], known=[1, 0, 1, 1, 1, 1]),
        lambda scores: contrastive(scores, [0.0, 0.4, -0.2, 0.0, 2.0, 0.9], [1, 1, 0, 1, 1, 1]),
    ],
    ids=["dpo", "masked dpo", "ce", "masked ce", "contrastive"],
)
def test_the_coefficients_are_the_finite_differences_of_the_loss(form):
    found = form(SCORES).coefficients
    np.testing.assert_allclose(found, slope(lambda scores: form(scores).loss, SCORES), rtol=0, atol=1e-9)
    assert np.abs(found).max() > 0.01


def test_the_two_pass_gradient_by_token_is_the_finite_difference_of_the_loss():
    turn_id, ratios = np.asarray([[0, 0, -1, 1], [0, -1, 1, 2], [0, 1, 2, -1]]), np.zeros((3, 4))
    ratios[:] = np.linspace(-1.0, 1.3, 12).reshape(3, 4)
    for over_turns in ("sum", "mean"):

        def loss(flat, form=over_turns):
            scores = trajectory_scores(flat.reshape(3, 4), turn_id, 0.5, form)
            return trajectory_dpo(scores, [1, 0, 1], "aaa")

        coefficients = loss(ratios.ravel()).coefficients
        found = token_gradient(coefficients, turn_id, 0.5, over_turns)
        wanted = slope(lambda flat: loss(flat).loss, ratios.ravel())
        np.testing.assert_allclose(found.ravel(), wanted, rtol=0, atol=1e-9)
        assert (found[turn_id < 0] == 0).all()


def test_the_coefficients_of_detached_dpo_hold_the_opponents_still():
    found = detached_dpo(SCORES, LABELS, GROUP)
    for i in range(len(SCORES)):
        others = [SCORES[j] for j in range(len(SCORES)) if GROUP[j] == GROUP[i] and LABELS[j] != LABELS[i]]
        sign, mean = 2 * LABELS[i] - 1, np.mean(others)

        def term(x, sign=sign, mean=mean):
            return float(np.log1p(np.exp(-sign * (x[0] - mean))))

        assert found.terms[i] == pytest.approx(term([SCORES[i]]))
        assert found.coefficients[i] == pytest.approx(slope(term, SCORES[i : i + 1])[0] / 6, abs=1e-9)


def test_all_winners_are_paired_with_all_losers_of_their_own_group_only():
    assert winner_loser_pairs(OUTCOMES, GROUP).tolist() == [[0, 1], [0, 3], [2, 1], [2, 3], [4, 5]]
    assert winner_loser_pairs(OUTCOMES, GROUP, threshold=0.5).tolist() == [[0, 1], [0, 2], [0, 3], [4, 5]]


@pytest.mark.parametrize(("outcomes", "group"), [([1, 1], "aa"), ([0, -1], "aa"), ([1, 0], "ab"), ([], "")])
def test_without_a_pair_there_is_no_loss_rather_than_a_loss_of_zero(outcomes, group):
    found = trajectory_dpo(np.ones(len(outcomes)), outcomes, list(group))
    assert found.loss is None
    assert (found.coefficients == 0).all()
    assert found.coefficients.shape == (len(outcomes),)


def test_a_masked_trajectory_is_in_no_pair_no_opponent_and_no_mean():
    scores, known = np.asarray([0.3, np.nan, 0.7, -1.1, 0.4, 0.9]), np.asarray([1, 0, 1, 1, 1, 1], dtype=bool)
    keep = np.flatnonzero(known)
    group = [GROUP[i] for i in keep]
    for masked, without in (
        (trajectory_dpo(scores, OUTCOMES, GROUP, known), trajectory_dpo(SCORES[keep], OUTCOMES[keep], group)),
        (cross_entropy(scores, LABELS, known), cross_entropy(SCORES[keep], LABELS[keep])),
        (detached_dpo(scores, LABELS, GROUP, known), detached_dpo(SCORES[keep], LABELS[keep], group)),
        (contrastive(scores, LABELS, known), contrastive(SCORES[keep], LABELS[keep])),
    ):
        assert masked.loss == pytest.approx(without.loss)
        assert masked.coefficients[1] == 0
        np.testing.assert_allclose(masked.coefficients[keep], without.coefficients)


def test_losses_of_nothing_are_missing():
    assert cross_entropy([], []).loss is None
    assert cross_entropy([1.0], [1.0], [False]).loss is None
    assert detached_dpo([1.0], [1.0], ["a"], [False]).loss is None
    assert contrastive([1.2], [0.2], [0]).loss is None


def test_losses_stay_finite_at_scores_far_apart():
    found = trajectory_dpo([-4000.0, 4000.0], [1, 0], "aa")
    assert found.loss == pytest.approx(8000.0)
    np.testing.assert_allclose(found.coefficients, [-1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: trajectory_dpo([np.nan, 1.0], [1, 0], "aa"), "scores are not finite at \\[0\\]"),
        (lambda: trajectory_dpo([1.0, 1.0], [1, np.nan], "aa"), "outcomes are not finite at \\[1\\]"),
        (lambda: trajectory_dpo([1.0, 1.0], [1, 0], "a"), "1 groups for 2 trajectories"),
        (lambda: trajectory_dpo([1.0, 1.0], [1, 0, 1], "aaa"), "both must be \\[N\\]"),
        (lambda: cross_entropy([1.0], [2.0]), "must be in 0 .. 1"),
        (lambda: detached_dpo([1.0], [0.5], "a"), "labels must be 0 or 1"),
        (lambda: contrastive([1.0, 2.0], [1.0]), "in pairs|both must be"),
        (lambda: turn_rewards(RATIOS, TURN_ID[:, :3]), "both must be \\[N, L\\]"),
        (lambda: turn_rewards(np.where(RATIOS == 2.0, np.inf, RATIOS), TURN_ID), "not finite"),
        (lambda: trajectory_scores(np.zeros((2, 2)), np.asarray([[0, 1], [-1, -1]])), "\\[1\\] have no action token"),
        (lambda: trajectory_scores(RATIOS, TURN_ID, over_turns="max"), "'sum' or 'mean'"),
    ],
)
def test_losses_and_implicit_rewards_refuse_wrong_data(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


def test_implicit_rewards_are_sums_over_each_turns_own_tokens():
    wanted = [[-0.1, 0.5, 0.0], [0.25, 0.0, 0.0], [0.5, 1.0, -2.0]]
    np.testing.assert_allclose(turn_rewards(RATIOS, TURN_ID, 0.5), wanted)
    np.testing.assert_allclose(trajectory_scores(RATIOS, TURN_ID, 0.5), [0.4, 0.25, -0.5])
    np.testing.assert_allclose(trajectory_scores(RATIOS, TURN_ID, 0.5, "mean"), [0.2, 0.25, -0.5 / 3])


ENTITIES = {"C1": ["E0", "E1"], "C2": ["E1", "E2"], "C3": ["E2"], "C4": ["E9"]}


def supported(**changes):
    return {"C1": True, "C2": True, "C3": True, "C4": True, **changes}


def test_connectivity_follows_chains_from_the_answer_whatever_the_order():
    assert connected_rubrics(ENTITIES, supported()) == ("C1", "C2", "C3")
    backwards = dict(reversed(ENTITIES.items()))
    assert connected_rubrics(backwards, supported()) == ("C3", "C2", "C1")
    assert connected_rubrics(ENTITIES, supported(C1=False)) == ()
    assert connected_rubrics(ENTITIES, supported(), root="E9") == ("C4",)


def test_the_rubric_reward_counts_all_rubrics_and_is_missing_without_any():
    assert rubric_reward(ENTITIES, supported()) == 0.75
    assert rubric_reward(ENTITIES, supported(C1=False)) == 0.0
    assert rubric_reward({}, {}) is None


def test_a_missing_verdict_makes_the_rubric_reward_unknown_only_where_it_matters():
    assert rubric_reward(ENTITIES, supported(C2=None)) is None
    assert rubric_reward(ENTITIES, supported(C3=None)) is None
    assert rubric_reward(ENTITIES, supported(C4=None)) == 0.75  # not reached, whatever the verdict
    assert rubric_reward(ENTITIES, supported(C1=False, C2=None)) == 0.0


def test_each_rubric_is_credited_to_the_turn_that_first_brought_its_evidence():
    seen = [[], ["u1", "u9"], ["u1", "u2"], ["u3"]]
    first = first_evidence({"C1": ["u1"], "C2": ["u2", "u3"], "C3": ["u2"], "C4": ["elsewhere"], "C5": []}, seen)
    assert first == {"C1": 1, "C2": 2, "C3": 2}
    credit = turn_credit(("C1", "C2", "C3"), first, num_rubrics=4, num_turns=4)
    np.testing.assert_allclose(credit, [0.0, 0.25, 0.5, 0.0])
    assert credit.sum() == pytest.approx(rubric_reward(ENTITIES, supported()))
    np.testing.assert_array_equal(turn_credit((), {}, num_rubrics=0, num_turns=2), [0.0, 0.0])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: rubric_reward(ENTITIES, {"C1": True}), r"\['C2', 'C3', 'C4'\]"),
        (lambda: connected_rubrics({"C1": "E0"}, {"C1": True}), "the string 'E0'"),
        (lambda: turn_credit(("C1",), {}, num_rubrics=2, num_turns=3), "rubric 'C1'"),
        (lambda: turn_credit(("C1",), {"C1": 3}, num_rubrics=2, num_turns=3), "turn 3, of 3 turns"),
        (lambda: turn_credit(("C1",), {"C1": 0}, num_rubrics=0, num_turns=3), "num_rubrics=0"),
    ],
)
def test_connectivity_refuses_wrong_data(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


ALL = ["support", "partial_support", "not_support"]


def test_the_nugget_verifier_gets_nothing_for_what_is_wrong_as_a_whole():
    assert verifier_reward(ALL, ALL) == pytest.approx(1.0)
    assert verifier_reward(ALL, ALL, is_output_valid=False) == pytest.approx(0.9)
    assert verifier_reward(ALL, ALL, num_reasoning_blocks=0) == pytest.approx(0.8)
    assert verifier_reward(ALL, ALL, num_reasoning_blocks=2) == 0.0
    assert verifier_reward(ALL[:2], ALL) == 0.0
    assert verifier_reward(ALL[1:] + ALL[:1], ALL) == 0.0
    assert verifier_reward(["yes", "yes", "yes"], ALL) == 0.0


def test_a_missing_gold_label_leaves_with_its_prediction():
    assert verifier_reward([*ALL, "support"], [*ALL, None]) == pytest.approx(1.0)
    assert verifier_reward(ALL, [None, None, None]) is None
    assert verifier_reward([], []) is None


def test_an_unused_label_counts_as_right():
    assert macro_f1(["support"], ["not_support"]) == pytest.approx(1 / 3)
    assert macro_f1(["support"], ["support"]) == 1.0


def test_nuggets_that_were_not_labelled_are_not_counted_as_unsupported():
    assert policy_recall(["support", None, "partial_support"]) == 0.75
    assert policy_recall([None]) is None
    assert policy_recall([]) is None
    assert policy_recall(["not_support"]) == 0.0


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: policy_recall(["supported"]), "label 'supported'"),
        (lambda: policy_recall(["a"], {"a": float("nan")}), "value of 'a' is nan"),
        (lambda: verifier_reward(["support"], ["yes"]), "gold label 'yes'"),
        (lambda: macro_f1([], []), "at least one"),
    ],
)
def test_nuggets_refuse_wrong_data(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


def test_a_pair_without_known_scores_has_no_score_and_one_of_equals_has_0():
    assert pair_score([]) is None
    assert pair_score([Criterion("core", None)]) is None
    assert pair_score([Criterion("core", 0), Criterion("fatal", 0)]) == 0.0
    assert pair_score([Criterion("core", 1), Criterion("core", None)]) == pytest.approx(1.0, abs=1e-6)


def test_a_fatal_criterion_decides_alone_and_an_unknown_one_leaves_all_open():
    core = Criterion("core", 2)
    assert pair_score([core, Criterion("fatal", -1), Criterion("fatal", -2)]) == -3.0
    assert pair_score([core, Criterion("fatal", 1), Criterion("fatal", -1)]) == 0.0
    assert pair_score([core, Criterion("fatal", None)]) is None


def test_a_pair_score_that_is_too_small_is_none_at_all():
    criteria = [Criterion("core", 1), Criterion("important", -2)]
    assert pair_score(criteria) == pytest.approx(1 / 7, abs=1e-6)
    assert pair_score(criteria, min_score=0.2) == 0.0


def test_a_verdict_turns_round_with_the_answers_and_needs_both_orders():
    for forward, backward in [(1.0, 0.0), (0.3, -2.0), (0.0, 0.0), (1.0, 1.0), (-1.0, 0.5)]:
        found, mirrored = bidirectional_verdict(forward, backward), bidirectional_verdict(backward, forward)
        assert mirrored == {"good": "bad", "bad": "good", "same": "same"}[found]
    assert bidirectional_verdict(1.0, -0.5, margin=0.5) == "good"
    assert bidirectional_verdict(1.0, -0.4, margin=0.5) == "same"
    assert bidirectional_verdict(None, -1.0) is None
    assert bidirectional_verdict(1.0, None) is None


def test_an_answers_reward_is_the_mean_over_known_verdicts():
    assert mean_verdict(["good", "good", "bad", None]) == pytest.approx(1 / 3)
    assert mean_verdict(["same"]) == 0.0
    assert mean_verdict([None]) is None
    assert mean_verdict([]) is None


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: Criterion("style", 1), "kind 'style'"),
        (lambda: Criterion("core", 3), "in -2 .. 2"),
        (lambda: Criterion("core", float("nan")), "finite"),
        (lambda: bidirectional_verdict(1.0, 1.0, margin=-0.1), "margin is -0.1"),
        (lambda: bidirectional_verdict(float("inf"), 1.0), "forward is inf"),
    ],
)
def test_pairs_refuse_wrong_data(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


SUBGOALS = [
    Subgoal(prototype="plan", score=1.0, last_turn=0),
    Subgoal(prototype="search", score=0.5, last_turn=2),
    Subgoal(prototype="check", score=0.0, last_turn=2),
    Subgoal(prototype=None, score=None, last_turn=1),
]


def test_the_turns_of_subgoals_sum_to_the_process_reward():
    values, known = turn_scores(SUBGOALS, 4)
    np.testing.assert_allclose(values, [1 / 3, 0.0, 0.5 / 3, 0.0])
    assert known.all()
    assert values.sum() == pytest.approx(process_reward(SUBGOALS))


def test_a_subgoal_that_the_judge_failed_on_masks_its_turn_and_leaves_the_mean():
    failed = [*SUBGOALS[:2], Subgoal(prototype="check", score=None, last_turn=2)]
    values, known = turn_scores(failed, 4)
    assert process_reward(failed) == 0.75
    np.testing.assert_allclose(values, [0.5, 0.0, 0.0, 0.0])
    assert known.tolist() == [True, True, False, True]


@pytest.mark.parametrize("subgoals", [[], SUBGOALS[3:]], ids=["none", "none matched"])
def test_without_a_scored_subgoal_everything_is_missing(subgoals):
    assert process_reward(subgoals) is None
    assert not turn_scores(subgoals, 2)[1].any()


def test_subgoals_refuse_wrong_data():
    with pytest.raises(ValueError, match="without a prototype"):
        Subgoal(prototype=None, score=0.0)
    with pytest.raises(ValueError, match="'plan' is nan"):
        Subgoal(prototype="plan", score=float("nan"))
    with pytest.raises(ValueError, match="turn 2, of 2 turns"):
        turn_scores(SUBGOALS, 2)


def test_a_missing_verdict_has_no_vote_and_a_tie_no_majority():
    found = step_majority([[1, None, 1, None], [0, 0, 1, None], [None, 0, 0, None], [None, 1, 1, None]])
    assert found.labels == (None, 0, 1, None)
    assert found.shares == (0.5, pytest.approx(1 / 3), 0.75, None)
    assert step_majority([]).labels == ()


def test_a_wrong_step_closes_the_gate_and_a_missing_one_leaves_it_open_to_question():
    assert gated_outcome(1.0, [1, 1]) == 1.0
    assert gated_outcome(1.0, [1, 0, None]) == 0.0
    assert gated_outcome(None, [0]) == 0.0
    assert gated_outcome(1.0, [1, None]) is None
    assert gated_outcome(None, [1]) is None


def test_verdicts_refuse_wrong_data():
    with pytest.raises(ValueError, match=r"\[1, 2\] steps"):
        step_majority([[1], [1, 0]])
    with pytest.raises(ValueError, match="verdict 2"):
        step_majority([[2]])
    with pytest.raises(ValueError, match="returned 'NO'"):
        probe_judge(lambda question, answer: "NO", ["q"])
    with pytest.raises(ValueError, match="0 questions"):
        probe_judge(lambda question, answer: False, [])


def test_a_probe_counts_only_the_verdicts_that_the_judge_gave():
    verdicts = {":": True, ".": None}
    found = probe_judge(lambda question, answer: verdicts.get(answer, False), ["q1", "q2"])
    assert found.false_positives == (("q1", ":"), ("q2", ":"))
    assert (found.num_judged, found.rate) == (18, pytest.approx(1 / 9))
    assert found.raises_alarm()
    assert not found.raises_alarm(threshold=0.2)


def test_a_judge_that_never_answers_raises_the_alarm():
    silent = probe_judge(lambda question, answer: None, ["q"])
    assert (silent.rate, silent.raises_alarm()) == (None, True)


def test_attempts_that_are_missing_are_left_out_and_are_no_failures():
    assert attempts_to_train([None, 0, 0], [None, None, 1]) == [Attempt(2, True, 1.0)]
    assert attempts_to_train([], []) == []


@pytest.mark.parametrize(
    ("first", "guided", "problem"),
    [
        ([1], [], "1 first and 0 guided"),
        ([1], [0], "task 0: guided, but its first attempt has reward 1"),
        ([None], [1], "only failed tasks are guided"),
        ([0, 0.5], [None, None], "task 1: the first attempt has reward 0.5"),
        ([0], [2], "the guided attempt has reward 2"),
    ],
)
def test_attempts_refuse_wrong_data(first, guided, problem):
    with pytest.raises(ValueError, match=problem):
        attempts_to_train(first, guided)


def test_an_unreadable_belief_keeps_the_formats_share_and_an_unknown_part_leaves_nothing():
    assert consistency_reward(None, -0.05) == pytest.approx(-0.005)
    assert consistency_reward(BeliefScores(state=-0.1, task=0.0, prediction=0.0), 0.01) == pytest.approx(-0.039)
    assert consistency_reward(BeliefScores(state=1.0, task=None, prediction=1.0), 0.01) is None


def test_beliefs_refuse_wrong_data():
    with pytest.raises(ValueError, match="belief score 'task' is nan"):
        BeliefScores(state=1.0, task=float("nan"), prediction=1.0)
    with pytest.raises(ValueError, match=r"weight 'format' is -0\.1"):
        BeliefWeights(format=-0.1)
    with pytest.raises(ValueError, match="format_score is inf"):
        consistency_reward(None, float("inf"))


def test_the_mean_of_known_values_is_missing_where_all_are():
    assert mean_of_known([1.0, None, 0.0]) == 0.5
    assert mean_of_known([None]) is None
