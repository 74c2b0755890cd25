"""The learner on a tiny model: exact, repeatable, restorable, and unharmed by bad numbers."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from learner_pieces import assert_same_weights, learner, make_batch, reference_logprobs, save_model, weights
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from turnwise.config.schema import LearnerConfig
from turnwise.engine.checksum import checksum
from turnwise.engine.weights import load_arrays
from turnwise.errors import NumericsError, UserError
from turnwise.learner import forward
from turnwise.learner.microbatch import deal
from turnwise.learner.schedule import learning_rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def changed(batch, **arrays):
    return dataclasses.replace(batch, **arrays)


def test_two_runs_are_equal_bit_for_bit(folder):
    one, other = learner(folder), learner(folder)
    curves = [[found.update(make_batch(step)) for step in range(4)] for found in (one, other)]
    assert curves[0] == curves[1]
    assert_same_weights(one, other)
    assert one.version == 4


def test_another_seed_deals_other_minibatches(folder):
    one, other = learner(folder, seed=0), learner(folder, seed=1)
    one.update(make_batch())
    other.update(make_batch())
    assert one.export()[1] != other.export()[1]


def test_every_version_deals_anew(folder):
    one, other = learner(folder), learner(folder)
    other.version = 3
    one.update(make_batch())
    other.update(make_batch())
    assert one.export()[1] != other.export()[1]


def test_a_trajectory_of_several_contexts_is_one_sequence(folder):
    found = learner(folder, minibatches=1, objective={"aggregate": "seq_mean_token_sum"})
    batch = make_batch(num_trajectories=3)
    assert batch.num_rows == 4
    batch = changed(batch, logprobs=reference_logprobs(found.model, batch))
    assert found.update(batch)["learner/loss"] == pytest.approx(-batch.advantages.sum() / 3, abs=1e-4)


@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_sum", "seq_mean_token_mean"])
def test_micro_batches_change_nothing_but_rounding(folder, aggregate):
    objective = {"aggregate": aggregate, "entropy": 0.01}
    split, whole = (learner(folder, objective=objective, micro_batch_tokens=n) for n in (1, 100_000))
    for step in range(2):
        metrics = [found.update(make_batch(step)) for found in (split, whole)]
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-5, abs=1e-6)
    for name, array in weights(split).items():
        np.testing.assert_allclose(array, weights(whole)[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_plain_model_at_the_samplers_temperature(folder, temperature):
    found = learner(folder, temperature=temperature, minibatches=1)
    batch = make_batch()
    batch = changed(batch, logprobs=reference_logprobs(found.model, batch, temperature))
    metrics = found.update(batch)
    assert metrics["learner/logprob_mismatch_max"] < 1e-5
    assert metrics["learner/ratio_min"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["learner/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["learner/approx_kl_k3"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["learner/clip_fraction"] == 0.0
    assert metrics["learner/tokens"] == batch.num_loss_tokens


def test_logits_in_pieces_are_the_same(folder, monkeypatch):
    whole, pieces = learner(folder), learner(folder)
    expected = whole.update(make_batch())
    monkeypatch.setattr(forward, "MAX_LOGITS", 180)  # three tokens at once
    assert pieces.update(make_batch()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_mismatch_is_measured_before_the_first_step_and_on_tokens_of_this_version_only(folder):
    found = learner(folder)
    batch = make_batch()
    batch = changed(batch, logprobs=reference_logprobs(found.model, batch))
    assert found.update(batch)["learner/logprob_mismatch_max"] < 1e-5
    assert "learner/logprob_mismatch" not in found.update(batch)


def test_observations_and_masked_turns_have_no_gradient(folder):
    batch = make_batch()
    mask = batch.loss_mask & ~((batch.turn_ids == 0) & (np.arange(len(batch.ids)) < batch.row_offsets[3]))
    batch = changed(batch, loss_mask=mask)
    rng = np.random.default_rng(9)
    noise = np.where(mask, 0.0, rng.normal(size=len(mask))).astype(np.float32)
    noisy = changed(batch, advantages=batch.advantages + noise, logprobs=batch.logprobs + noise)
    one, other = learner(folder), learner(folder)
    assert one.update(batch) == other.update(noisy)
    assert_same_weights(one, other)


def test_a_good_action_becomes_likelier_and_a_bad_one_less_likely(folder):
    found = learner(folder, minibatches=1, lr=3e-3)
    batch = make_batch()
    sign = np.where(np.arange(len(batch.ids)) % 2 == 0, 1.0, -1.0)
    before = reference_logprobs(found.model, batch)
    found.update(changed(batch, logprobs=before, advantages=np.where(batch.loss_mask, sign, 0).astype(np.float32)))
    moved = (reference_logprobs(found.model, batch) - before) * sign
    assert moved[batch.loss_mask].mean() > 0.01


def test_the_entropy_bonus_raises_entropy(folder):
    plain, curious = learner(folder, objective={"entropy": 0.0}), learner(folder, objective={"entropy": 1.0})
    batch = make_batch()
    batch = changed(batch, advantages=np.zeros_like(batch.advantages))
    for _ in range(5):
        plain.update(batch)
        last = curious.update(batch)
    assert last["learner/entropy"] > plain.update(batch)["learner/entropy"] + 1e-4


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("advantages", np.nan, r"1 of \d+ advantages .* the first at turn \d of the batch's trajectory \d"),
        ("advantages", np.inf, "1 of [0-9]+ advantages"),
        ("logprobs", np.nan, "1 of [0-9]+ logprobs"),
        ("logprobs", -np.inf, "1 of [0-9]+ logprobs"),
        ("advantages", 3e38, "after update 1: step refused"),  # finite, but its gradient is not
    ],
)
def test_a_number_that_is_not_finite_is_refused_and_nothing_changes(folder, column, value, message):
    found, untouched = learner(folder), learner(folder)
    for each in (found, untouched):
        each.update(make_batch(0))
    batch = make_batch(1, version=1)
    # in the second minibatch: the first one has been stepped when it comes to light
    row = deal(batch, 2, (0, 1, 0))[1][0]
    start, stop = batch.row_offsets[row : row + 2]
    array = getattr(batch, column).copy()
    array[start + np.flatnonzero(batch.loss_mask[start:stop])[0]] = value
    with pytest.raises(NumericsError, match=message):
        found.update(changed(batch, **{column: array}))
    assert found.version == 1
    assert_same_weights(found, untouched)
    assert found.update(make_batch(2)) == untouched.update(make_batch(2))
    assert_same_weights(found, untouched)


def test_a_batch_without_trained_tokens_is_an_update_without_a_step(folder):
    found = learner(folder)
    before = found.export()[1]
    metrics = found.update(changed(make_batch(), loss_mask=np.zeros(len(make_batch().ids), dtype=bool)))
    assert metrics["learner/empty_minibatches"] == 2
    assert metrics["learner/steps"] == 0
    assert found.export()[:2] == (1, before)


def test_gradients_are_clipped(folder):
    free, held = learner(folder, max_grad_norm=1e9, minibatches=1), learner(folder, max_grad_norm=1e-9, minibatches=1)
    start = weights(free)
    for found in (free, held):
        found.update(make_batch())
    moved = [max(np.abs(weights(found)[name] - start[name]).max() for name in start) for found in (free, held)]
    assert moved[0] > 0.5e-3
    assert moved[1] < 0.5 * moved[0]


def test_five_and_five_updates_are_ten_bit_for_bit(folder, tmp_path):
    options = {"schedule": "cosine", "warmup_updates": 2, "epochs": 2}
    through = learner(folder, **options)
    for step in range(5):
        through.update(make_batch(step))
    through.save(tmp_path / "half")
    expected = [through.update(make_batch(step)) for step in range(5, 10)]

    resumed = learner(folder, seed=99, **options)
    resumed.load(tmp_path / "half")
    assert resumed.version == 5
    assert [resumed.update(make_batch(step)) for step in range(5, 10)] == expected
    assert_same_weights(resumed, through)


def test_a_learner_that_has_moved_on_goes_back_when_it_loads(folder, tmp_path):
    found = learner(folder)
    found.save(tmp_path / "start")
    first = [found.update(make_batch(step)) for step in range(2)]
    found.load(tmp_path / "start")
    assert [found.update(make_batch(step)) for step in range(2)] == first


def test_a_saved_folder_is_a_hugging_face_model_without_pickles(folder, tmp_path):
    found = learner(folder)
    found.update(make_batch())
    found.save(tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, found.model(ids).logits, rtol=0, atol=0)
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "model.safetensors", "optimizer.safetensors", "learner.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_checkpoint_of_another_model_is_refused(folder, tmp_path):
    other = learner(save_model(tmp_path))
    wide = tmp_path / "wide"
    wide.mkdir()
    learner(save_model(wide, width=32)).save(tmp_path / "saved")
    with pytest.raises(UserError, match="another architecture"):
        other.load(tmp_path / "saved")


def test_a_checkpoint_that_is_incomplete_or_newer_is_refused(folder, tmp_path):
    found = learner(folder)
    with pytest.raises(UserError, match=r"learner\.json"):
        found.load(tmp_path)
    found.save(tmp_path)
    progress = json.loads((tmp_path / "learner.json").read_text())
    (tmp_path / "learner.json").write_text(json.dumps(progress | {"schema_version": 99}))
    with pytest.raises(UserError, match="schema_version 99"):
        found.load(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_engine_can_prove_that_it_holds_what_was_exported(tmp_path, tied, dtype):
    found = learner(save_model(tmp_path, tied=tied), dtype=dtype)
    engine = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, dtype))
    found.update(make_batch())
    version, published, state = found.export()
    assert version == 1
    assert ("lm_head.weight" in state) is not tied
    assert published == checksum(state)
    assert load_arrays(engine, published, state) == published


def test_an_export_is_a_copy(folder):
    found = learner(folder)
    _, before, state = found.export()
    for array in state.values():
        array += 1.0
    assert found.export()[1] == before


def test_training_in_bfloat16_keeps_small_steps(folder):
    found = learner(folder, dtype="bfloat16", lr=1e-6)
    start = found.model.state_dict()["model.embed_tokens.weight"].clone()
    metrics = found.update(make_batch())
    assert np.isfinite(metrics["learner/loss"])
    assert not torch.equal(start, found.model.state_dict()["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("options", "field"), [({"dtype": "float8"}, "model.dtype"), ({"temperature": 0.0}, "temperature")]
)
def test_options_that_cannot_work_are_refused(folder, options, field):
    with pytest.raises(UserError, match=field):
        learner(folder, **options)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model.path=.*cannot be loaded"):
        learner(tmp_path)


def test_a_head_that_is_more_than_a_projection_is_refused(tmp_path):
    config = GraniteConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=4.0,
    )
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="scaled or capped"):
        learner(tmp_path)


def test_the_learning_rate_warms_up_and_follows_its_schedule():
    constant = LearnerConfig(lr=1.0, updates=10, warmup_updates=3)
    assert [learning_rate(constant, update) for update in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = LearnerConfig(lr=1.0, updates=11, schedule="cosine", min_lr_fraction=0.1)
    rates = [learning_rate(cosine, update) for update in range(12)]
    assert rates[0] == 1.0
    assert rates[5] == pytest.approx(0.55)
    assert rates[10] == pytest.approx(0.1)
    assert rates[11] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
