"""What the learner adds to an objective: proximal log-probabilities, corrections, and the KL term to where it began."""

import dataclasses

import numpy as np
import pytest
from learner_pieces import assert_same_weights, learner, make_batch, reference_logprobs, save_model, weights
from objective_pieces import CORRECTIONS, OBJECTIVES

from turnwise.errors import UserError
from turnwise.learner import microbatch
from turnwise.learner.corrections.none import NoCorrection
from turnwise.learner.fixed import fixed_columns, token_groups


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def on_policy(found, seed=0, noise=0.0):
    """Return a batch sampled by the learner's weights, but for a noise on each log-probability."""
    batch = make_batch(seed)
    logprobs = reference_logprobs(found.model, batch)
    logprobs += np.random.default_rng(seed).normal(scale=noise, size=len(logprobs)) if noise else 0.0
    return dataclasses.replace(batch, logprobs=np.where(batch.loss_mask, logprobs, 0.0).astype(np.float32))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_the_same_whatever_the_micro_batches(folder, name):
    options = {"minibatches": 1, "objective": {"name": name}, "kl_coef": 0.01}
    split, whole = (learner(folder, micro_batch_tokens=n, **options) for n in (1, 100_000))
    for step in range(2):
        batch = on_policy(whole, step, noise=0.1)
        metrics = [found.update(batch) for found in (split, whole)]
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, abs=2e-6)
    for parameter, array in weights(split).items():
        # AdamW magnifies the rounding of small gradients; see test_learner_gradients.py for the gradients themselves
        np.testing.assert_allclose(array, weights(whole)[parameter], atol=5e-6, err_msg=parameter)


def doubled(batch, rng):
    """Return the batch twice: the same tokens as other trajectories, sampled and credited otherwise."""
    size, mask = len(batch.ids), np.tile(batch.loss_mask, 2)
    twice = {field.name: np.tile(getattr(batch, field.name), 2) for field in dataclasses.fields(batch)}
    return dataclasses.replace(
        batch,
        **{
            **twice,
            "logprobs": np.where(mask, twice["logprobs"] + rng.normal(scale=0.1, size=2 * size), 0).astype(np.float32),
            "advantages": np.where(mask, rng.normal(size=2 * size), 0).astype(np.float32),
            "row_offsets": np.r_[batch.row_offsets, batch.row_offsets[1:] + size].astype(np.int32),
            "row_trajectories": np.r_[batch.row_trajectories, batch.row_trajectories + 6].astype(np.int32),
        },
    )


@pytest.mark.parametrize("correction", ["none", "mis"])
@pytest.mark.parametrize("name", ["ppo", "gspo", "turn_ratio"])
def test_rows_that_are_computed_once_keep_their_own_turns_and_trajectories(folder, monkeypatch, name, correction):
    options = {"minibatches": 1, "objective": {"name": name}, "correction": {"name": correction}, "kl_coef": 0.01}
    once, apart = (learner(folder, **options) for _ in range(2))
    batch = doubled(on_policy(once), np.random.default_rng(3))
    metrics = [once.update(batch)]
    monkeypatch.setattr(microbatch, "alike", lambda packed, rows, lengths: [[int(row)] for row in rows])
    metrics.append(apart.update(batch))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, abs=2e-6)
    for parameter, array in weights(once).items():
        np.testing.assert_allclose(array, weights(apart)[parameter], atol=5e-6, err_msg=parameter)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_makes_a_good_action_likelier(folder, name):
    found = learner(folder, minibatches=1, lr=3e-3, objective={"name": name})
    batch = on_policy(found)
    sign = np.where(np.arange(len(batch.ids)) % 2 == 0, 1.0, -1.0)
    found.update(dataclasses.replace(batch, advantages=np.where(batch.loss_mask, sign, 0).astype(np.float32)))
    moved = (reference_logprobs(found.model, batch) - batch.logprobs) * sign
    assert moved[batch.loss_mask].mean() > 0.01


def test_with_a_correction_the_ratio_is_against_the_weights_that_the_update_begins_with(folder):
    found = learner(folder, minibatches=1, correction={"name": "tis", "cap": 1.1})
    plain = learner(folder, minibatches=1)
    batch = on_policy(found, noise=0.3)
    metrics, without = found.update(batch), plain.update(batch)
    assert metrics["learner/ratio_min"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["learner/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["learner/clip_fraction"] == 0.0
    assert without["learner/ratio_max"] > 1.2
    assert without["learner/logprob_mismatch"] == metrics["learner/logprob_mismatch"] > 0.1
    assert 0.8 < metrics["learner/correction_weight"] < 1.0
    assert "learner/correction_weight" not in without


def test_the_proximal_policy_stays_while_the_weights_move(folder):
    found = learner(folder, minibatches=1, epochs=3, lr=1e-2, correction={"name": "icepop"})
    metrics = found.update(on_policy(found))
    assert metrics["learner/ratio_max"] > 1.05
    assert metrics["learner/correction_weight"] == pytest.approx(1.0, abs=1e-5)


def test_what_a_correction_rejects_is_counted_and_not_trained_on(folder):
    found = learner(folder, minibatches=1, correction={"name": "mis", "level": "turn"})
    batch = on_policy(found)
    turn = (batch.turn_ids == 0) & (np.arange(len(batch.ids)) < batch.row_offsets[1])
    far = dataclasses.replace(batch, logprobs=batch.logprobs + np.where(turn, -3.0, 0.0).astype(np.float32))
    wild = dataclasses.replace(far, advantages=np.where(turn, 50.0, far.advantages).astype(np.float32))
    other = learner(folder, minibatches=1, correction={"name": "mis", "level": "turn"})
    metrics = found.update(far)
    assert metrics["learner/correction_rejected"] == pytest.approx(turn.sum() / batch.num_loss_tokens)
    other.update(wild)
    assert_same_weights(found, other)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_on_policy_a_correction_changes_nothing(folder, name):
    corrected, plain = learner(folder, minibatches=1, correction={"name": name}), learner(folder, minibatches=1)
    batch = on_policy(plain)
    assert corrected.update(batch)["learner/loss"] == pytest.approx(plain.update(batch)["learner/loss"], abs=1e-5)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_batch_without_trained_tokens_has_nothing_to_correct(folder, name):
    found = learner(folder, correction={"name": name}, kl_coef=0.1)
    batch = make_batch()
    empty = dataclasses.replace(batch, loss_mask=np.zeros(len(batch.ids), dtype=bool))
    assert found.update(empty)["learner/steps"] == 0


@pytest.mark.parametrize("objective", ["dppo", "decoupled_ppo"])
def test_a_correction_beside_an_objective_that_takes_none_is_refused(folder, objective):
    with pytest.raises(UserError, match=rf"learner.correction.name=tis: the objective {objective} accounts"):
        learner(folder, objective={"name": objective}, correction={"name": "tis"})


@pytest.mark.parametrize("name", ["mis", "icepop"])
def test_a_band_without_one_is_refused(folder, name):
    with pytest.raises(UserError, match=r"learner.correction.low=1.5"):
        learner(folder, correction={"name": name, "low": 1.5})


def test_turns_and_trajectories_are_numbered_across_rows():
    batch = make_batch()
    trajectories, turns = token_groups(batch)
    trained = batch.loss_mask
    pairs = {*zip(trajectories[trained].tolist(), batch.turn_ids[trained].tolist(), strict=True)}
    triples = {*zip(trajectories.tolist(), batch.turn_ids.tolist(), turns.tolist(), strict=True)}
    assert len(np.unique(turns[trained])) == len(pairs)
    assert len(triples) == len(np.unique(turns))
    columns = fixed_columns(batch, NoCorrection(), lambda _: 1 / 0, None)
    assert columns["base"] is batch.logprobs


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_kl_term_begins_at_zero_and_pulls_the_policy_back(folder, estimator):
    found = learner(folder, minibatches=1, lr=3e-3, kl_coef=1.0, kl_estimator=estimator)
    away = [found.update(make_batch())["learner/reference_kl"] for _ in range(3)]
    still = dataclasses.replace(make_batch(), advantages=np.zeros_like(make_batch().advantages))
    back = [found.update(still)["learner/reference_kl"] for _ in range(20)]
    assert away[0] == pytest.approx(0.0, abs=1e-9)
    assert back[0] > 1e-3
    assert back[-1] < 0.2 * max(back)


def test_without_a_coefficient_no_reference_is_held(folder):
    found = learner(folder)
    assert "learner/reference_kl" not in found.update(make_batch())
    assert found._reference is None


@pytest.mark.parametrize("objective", ["gspo", "decoupled_ppo"])
def test_a_resumed_run_has_the_reference_that_it_began_with(folder, tmp_path, objective):
    options = {"kl_coef": 0.1, "objective": {"name": objective}}
    through = learner(folder, **options)
    for step in range(2):
        through.update(make_batch(step))
    through.save(tmp_path / "half")
    expected = [through.update(make_batch(step)) for step in range(2, 4)]
    resumed = learner(folder, **options)
    resumed.load(tmp_path / "half")
    assert [resumed.update(make_batch(step)) for step in range(2, 4)] == expected
    assert expected[0]["learner/reference_kl"] > 0
    assert_same_weights(resumed, through)


def test_a_warm_started_run_refers_to_the_model_after_its_warm_start(folder, tmp_path):
    first = learner(folder, kl_coef=0.1, minibatches=1)
    for _ in range(3):
        first.sft_update(make_batch(), 1e-2)
    first.save(tmp_path / "warm")
    assert first.update(make_batch())["learner/reference_kl"] == pytest.approx(0.0, abs=1e-6)
    first.save(tmp_path / "one")
    expected = first.update(make_batch(1))
    resumed = learner(tmp_path / "warm", kl_coef=0.1, minibatches=1)
    resumed.load(tmp_path / "one")
    assert resumed.update(make_batch(1)) == expected
    cold = learner(folder, kl_coef=0.1, minibatches=1)
    cold.load(tmp_path / "one")
    with pytest.raises(UserError, match=r"model.path=.*has 0 steps of warm start"):
        cold.update(make_batch(1))
