"""The worked cases of objectives and corrections. A released number that is another quantity stands as "not this"."""

import numpy as np
import pytest
import torch
from golden_cases import BATCH, CLOSE, CLOSE_FLOAT32, MASK, covers, expected, inputs
from objective_pieces import TRAJECTORIES, TURNS, action_tokens, built, groups, of_batch

from turnwise.learner.corrections.importance import importance
from turnwise.learner.objectives.ratio import group_log_ratio, ratio


def trained(values):
    return np.asarray(values)[MASK]


def log_w():
    return of_batch("old_logp") - of_batch("rollout_logp")


def weights(name, **options):
    return built("correction", name, **options).weights(log_w(), *groups()).numpy()


def ragged_turns(rows):
    """Spread [N][turns] values over the tokens of each turn."""
    ids = np.asarray(BATCH["concat_turn_id"])[MASK]
    return np.asarray([rows[i][k] for i, k in zip(TRAJECTORIES, ids, strict=True)])


def test_the_shared_batch_is_laid_out_as_its_cases_say():
    assert inputs("tis_token")["old_logp"] == BATCH["old_logp"]
    assert inputs("tis_token")["rollout_logp"] == BATCH["rollout_logp"]
    assert inputs("tis_token")["mask"] == BATCH["concat_mask"]
    assert len(np.unique(TURNS)) == sum(map(len, BATCH["tokens_per_turn"]))


@covers("loss_gspo")
def test_gspo():
    case, wanted = inputs("loss_gspo"), expected("loss_gspo")
    objective = built("objective", "gspo", clip_low=case["clip_low"], clip_high=case["clip_high"])
    tokens = action_tokens(objective, case["advantage"])
    result = objective.loss(tokens)
    np.testing.assert_allclose(result.per_token["ratio"], np.asarray(wanted["seq_ratio"])[TRAJECTORIES], **CLOSE)
    assert float(result.loss) == pytest.approx(wanted["loss"], abs=CLOSE_FLOAT32["atol"])


@covers("loss_turn_ratio_geometric", "loss_turn_ratio_product")
@pytest.mark.parametrize("form", ["geometric", "product"])
@pytest.mark.parametrize("aggregate", ["token_mean", "turn_mean"])
def test_one_ratio_a_turn(form, aggregate):
    case, wanted = inputs(f"loss_turn_ratio_{form}"), expected(f"loss_turn_ratio_{form}")
    clips = {name: case[name] for name in ("clip_low", "clip_high")}
    objective = built("objective", "turn_ratio", form=form, aggregate=aggregate, **clips)
    result = objective.loss(action_tokens(objective, case["advantage"]))
    np.testing.assert_allclose(result.per_token["ratio"], ragged_turns(wanted["turn_ratio"]), **CLOSE)
    assert float(result.loss) == pytest.approx(wanted[aggregate], abs=CLOSE_FLOAT32["atol"])


@covers("loss_cispo")
def test_cispo():
    case, wanted = inputs("loss_cispo"), expected("loss_cispo")
    objective = built("objective", "cispo", clip_low=case["clip_low"], clip_high=case["clip_high"])
    new = of_batch("new_logp").requires_grad_()
    result = objective.loss(action_tokens(objective, case["advantage"], logprobs=new))
    result.loss.backward()
    assert float(result.loss.detach()) == pytest.approx(wanted["loss"], abs=CLOSE_FLOAT32["atol"])
    np.testing.assert_allclose(new.grad, trained(wanted["grad_wrt_new_logp"]), **CLOSE_FLOAT32)
    clipped = trained(wanted["clipped_ratio_stopgrad"])
    is_clipped = np.isclose(clipped, 0.8, atol=1e-9) | np.isclose(clipped, 1.28, atol=1e-9)
    assert (result.per_token["clip_fraction"].numpy() == is_clipped).all()


@covers("loss_dppo_tv")
def test_dppo():
    case, wanted = inputs("loss_dppo_tv"), expected("loss_dppo_tv")
    options = {"mask_low": case["mask_low"], "mask_high": case["mask_high"], "penalty": case["kl_tau"]}
    objective = built("objective", "dppo", **options)
    losses, columns = objective.losses(action_tokens(objective, case["advantage"], sampler="rollout_logp"))
    np.testing.assert_array_equal(1.0 - columns["clip_fraction"].numpy(), trained(wanted["kept"]))
    assert float(losses.sum()) == pytest.approx(wanted["loss_sum"], abs=CLOSE["atol"])


@covers("tis_token", "tis_sequence", "tis_token_batch_norm")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tis_token", {}),
        ("tis_sequence", {"level": "sequence", "form": "product"}),
        ("tis_token_batch_norm", {"normalise": True}),
    ],
)
def test_truncated_importance_sampling(name, options):
    found = weights("tis", cap=inputs(name)["cap"], **options)
    # the released mean has 1e-8 added to its denominator
    np.testing.assert_allclose(found, trained(expected(name)["weight"]), rtol=1e-9, atol=CLOSE["atol"])


@covers("mis_token")
def test_masked_importance_sampling_of_tokens():
    case, wanted = inputs("mis_token"), expected("mis_token")
    found = weights("mis", level="token", low=case["low"], high=case["high"])
    np.testing.assert_allclose(found, trained(wanted["weight"]), **CLOSE)
    np.testing.assert_array_equal(found > 0, trained(wanted["mask"]) > 0)


@covers("mis_geometric")
def test_masked_importance_sampling_of_sequences_bounds_the_ratio_itself():
    case, wanted = inputs("mis_geometric"), expected("mis_geometric")
    whole = importance(log_w(), *groups(), "sequence", "geometric")
    np.testing.assert_allclose(whole, np.asarray(wanted["geo_ratio"])[TRAJECTORIES], **CLOSE)
    found = weights("mis", level="sequence", low=case["low"], high=case["high"])
    keep = np.asarray(wanted["keep"])[TRAJECTORIES]
    np.testing.assert_allclose(found, np.where(keep, log_w().exp().numpy(), 0.0), **CLOSE)


@covers("mis_geometric_verl_k1")
def test_a_band_on_k1_would_be_one_on_the_inverse_and_is_not_ours():
    wanted = expected("mis_geometric_verl_k1")
    low, high = (float(part) for part in inputs("mis_geometric_verl_k1")["spec"].split("_"))
    found = weights("mis", level="sequence", low=low, high=high) > 0
    np.testing.assert_array_equal(found, np.asarray(wanted["keep_if_bounds_were_on_ratio"])[TRAJECTORIES])
    not_this = np.asarray(wanted["keep"])[TRAJECTORIES]
    assert (found != not_this).any()
    inverse = 1.0 / importance(log_w(), *groups(), "sequence", "geometric").numpy()
    np.testing.assert_array_equal((inverse >= low) & (inverse <= high), not_this)


@covers("icepop")
def test_icepop():
    case, wanted = inputs("icepop"), expected("icepop")
    found = weights("icepop", low=case["low"], high=case["high"])
    np.testing.assert_allclose(found, trained(wanted["weight"]), **CLOSE)
    objective = built("objective", "ppo", clip_low=0.2, clip_high=0.28)  # CaRR's, which the case does not name
    tokens = action_tokens(objective, inputs("loss_ppo")["advantage"], correction=torch.tensor(found))
    assert float(objective.loss(tokens).loss) == pytest.approx(wanted["loss_token_mean"], abs=CLOSE_FLOAT32["atol"])


@covers("openrlhf_seq_mask_tis")
def test_a_kept_sequence_keeps_its_tokens_ratios_unclamped():
    case = inputs("openrlhf_seq_mask_tis")
    found = weights("mis", level="sequence", low=case["low"], high=case["high"])
    objective = built("objective", "ppo", clip_low=case["clip_low"], clip_high=case["clip_high"], dual_clip=0.0)
    tokens = action_tokens(objective, inputs("loss_ppo")["advantage"], correction=torch.tensor(found))
    wanted = expected("openrlhf_seq_mask_tis")["loss_token_mean"]
    assert float(objective.loss(tokens).loss) == pytest.approx(wanted, abs=CLOSE_FLOAT32["atol"])


@covers("decoupled_ppo", "decoupled_ppo_cap2")
@pytest.mark.parametrize("name", ["decoupled_ppo", "decoupled_ppo_cap2"])
def test_decoupled_ppo(name):
    case, wanted = inputs(name), expected(name)
    options = {"clip_low": case["clip"], "clip_high": case["clip"], "cap": case["behave_cap"]}
    objective = built("objective", "decoupled_ppo", level=case["level"], action=case["action"], **options)
    factors = objective.correction.weights(log_w(), *groups())
    np.testing.assert_allclose(factors, trained(wanted["behave_weight"]), **CLOSE)
    tokens = action_tokens(objective, case["advantage"], sampler="rollout_logp", correction=factors)
    assert float(objective.loss(tokens).loss) == pytest.approx(wanted["loss"], abs=CLOSE_FLOAT32["atol"])


def test_a_group_of_turns_has_one_ratio():
    log_ratio = torch.tensor([0.1, 0.3, -0.2], dtype=torch.float64)
    turns = torch.tensor([4, 4, 1])
    product = ratio(group_log_ratio(log_ratio, turns, "product"))
    np.testing.assert_allclose(product, np.exp([0.4, 0.4, -0.2]))
    geometric = ratio(group_log_ratio(log_ratio, turns, "geometric"))
    np.testing.assert_allclose(geometric, np.exp([0.2, 0.2, -0.2]))
