"""Values of turns: scores on a channel of weight 0, which are read and are no reward."""

import dataclasses

import numpy as np
import pytest
from credit_pieces import group, score

from turnwise.config import load_config
from turnwise.credit.assign import assign
from turnwise.credit.estimators.turn_gae import TurnGae, TurnGaeConfig
from turnwise.credit.gae import gae
from turnwise.credit.returns import weighted_scores
from turnwise.credit.rewards import turn_rewards
from turnwise.credit.values import turn_values
from turnwise.errors import JudgeError, UserError

WEIGHTS = {"outcome": 1.0, "value": 0.0}


def scored(*more, without=()):
    """One group of two trajectories with two turns each, outcomes 1 and 0, and a value a turn but `without`."""
    values = {("g/0", 0): 0.5, ("g/0", 1): 0.75, ("g/1", 0): 0.5, ("g/1", 1): 0.25}
    given = [
        score(where, x, turn=k, channel="value", source="critic")
        for (where, k), x in values.items()
        if (where, k) not in without
    ]
    return group("g", [(2, 3), (1, 2)], [score("g/0", 1.0), score("g/1", 0.0), *given, *more])


def estimate(scored_group, **options):
    rewards = turn_rewards([scored_group], WEIGHTS)
    return TurnGae(TurnGaeConfig(normalise="none", **options)).estimate(rewards)


def test_values_are_subtracted_and_are_no_reward():
    found = estimate(scored(), gamma=1.0, lam=1.0)
    assert found.values.tolist() == [[0.5, 0.25], [-0.5, -0.25]]
    assert found.mask.all()
    assert weighted_scores(turn_rewards([scored()], WEIGHTS))[0].tolist() == [1.0, 0.0]


def test_a_missing_value_is_not_zero_it_hides_its_turn_and_those_before():
    found = estimate(scored(without=[("g/0", 1)]))
    assert found.mask.tolist() == [[False, False], [True, True]]
    found = estimate(scored(without=[("g/0", 0)]), gamma=1.0, lam=1.0)
    assert found.mask.tolist() == [[False, True], [True, True]]
    assert found.values[0].tolist() == [0.0, 0.25]


def test_a_masked_value_hides_like_a_missing_one():
    masked = score("g/0", None, turn=1, channel="value", source="critic")
    assert estimate(scored(masked, without=[("g/0", 1)])).mask.tolist() == [[False, False], [True, True]]
    whole = score("g/0", None, channel="value", source="critic")
    assert estimate(scored(whole)).mask.tolist() == [[False, False], [True, True]]


def test_a_value_of_a_whole_trajectory_is_the_scorers_mistake():
    whole = score("g/1", 0.5, channel="value", source="other")
    with pytest.raises(
        JudgeError, match=r"channel 'value', trajectory g/1, whole trajectory: the channel holds values"
    ):
        turn_values(turn_rewards([scored(whole)], WEIGHTS), "value")


def test_the_whole_line_from_scores_to_tokens_reads_values():
    config = load_config(
        None, ["credit.channels={outcome: 1.0, value: 0.0}", "credit.estimator={name: token_gae, whiten: false}"]
    ).config
    batch, metrics = assign([scored()], config.credit)
    trained = batch.advantages[batch.loss_mask]
    np.testing.assert_allclose(trained, [0.5] * 2 + [0.25] * 3 + [-0.5] + [-0.25] * 2)
    assert metrics["reward/mean"] == 0.5


@pytest.mark.parametrize("channels", ["{outcome: 1.0}", "{outcome: 1.0, value: 0.5}"])
@pytest.mark.parametrize("name", ["token_gae", "bi_level_gae", "turn_gae"])
def test_a_channel_of_values_must_be_listed_with_weight_0(name, channels):
    overrides = [f"credit.channels={channels}", f"credit.estimator.name={name}"]
    with pytest.raises(UserError, match=r"reads values there, which are no reward.*add value: 0.0 to credit.channels"):
        load_config(None, overrides)


def test_the_estimator_follows_the_option_that_names_the_channel():
    rewards = turn_rewards([scored()], WEIGHTS)
    renamed = {
        name: {("critic" if channel == "value" else channel): x for channel, x in getattr(rewards, name).items()}
        for name in ("turn", "turn_mask", "outcome", "outcome_mask", "weights", "turn_scored")
    }
    found = TurnGae(TurnGaeConfig(values="critic", normalise="none")).estimate(dataclasses.replace(rewards, **renamed))
    np.testing.assert_array_equal(found.values, estimate(scored()).values)


def test_observations_between_tokens_change_no_advantage():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    mask = np.arange(6)[None, :] < np.asarray([6, 4, 1])[:, None]
    plain = gae(rewards, values, mask, 0.9, 0.8)
    wide = [np.insert(x, [2, 2, 3], 7.0 if x.dtype != bool else False, axis=1) for x in (rewards, values, mask)]
    found = gae(*wide, 0.9, 0.8)
    np.testing.assert_array_equal(found[wide[2]], plain[mask])
    assert not found[~wide[2]].any()
