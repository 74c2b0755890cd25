"""The learner as a Ray actor: once a key, weights by reference, and answers while it works."""

import sys
from pathlib import Path

import numpy as np
import pytest
import ray

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from learner_pieces import make_batch, save_model

from turnwise.config.schema import LearnerConfig, SftConfig
from turnwise.engine.checksum import checksum
from turnwise.errors import NumericsError
from turnwise.learner.actor import LearnerActor
from turnwise.learner.sft import TokenRows

CONFIG = LearnerConfig(updates=5, threads=1, micro_batch_tokens=64)


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def actor(cluster, tmp_path):
    made = LearnerActor.options(num_cpus=0, name="learner:0").remote(str(save_model(tmp_path)), CONFIG, "float32", 0)
    assert get(made.ping.remote())
    yield made
    ray.kill(made)


def get(reference):
    return ray.get(reference, timeout=120)


def test_a_repeated_key_gives_the_same_result_and_does_nothing(actor):
    first = get(actor.update.remote(make_batch(), 0))
    _, held, _ = get(actor.export.remote())
    assert get(actor.update.remote(make_batch(), 0)) == first
    version, still, _ = get(actor.export.remote())
    assert (version, still) == (1, held)
    get(actor.update.remote(make_batch(), 1))
    assert get(actor.version.remote()) == 2
    assert get(actor.export.remote())[1] != held


def test_the_exported_weights_are_a_reference_that_anyone_may_resolve(actor):
    version, published, reference = get(actor.export.remote())
    assert version == 0
    assert checksum(get(reference)) == published


def test_the_actor_answers_while_it_works(actor):
    batch = make_batch()
    rows = TokenRows(ids=batch.ids, loss_mask=batch.loss_mask, row_offsets=batch.row_offsets)
    work = actor.sft.remote(rows, SftConfig(steps=400, batch_size=4), 0, 0, 400, "sft")
    status = get(actor.status.remote())
    ready, _ = ray.wait([work], timeout=0)
    assert not ready
    assert status["threads"] == 1
    losses = get(work)
    assert len(losses) == 400
    assert get(actor.status.remote())["sft_steps"] == 400
    assert get(actor.sft.remote(rows, SftConfig(steps=400, batch_size=4), 0, 0, 400, "sft")) == losses
    assert get(actor.status.remote())["sft_steps"] == 400


def test_a_saved_learner_goes_on_where_it_was(actor, tmp_path):
    get(actor.update.remote(make_batch(0), 0))
    assert get(actor.save.remote(str(tmp_path / "saved"))) == 1
    expected = get(actor.update.remote(make_batch(1), 1))
    assert get(actor.load.remote(str(tmp_path / "saved"))) == 1
    assert get(actor.update.remote(make_batch(1), 1)) == expected
    assert get(actor.version.remote()) == 2  # done, not remembered: after a load every key is new


def test_a_refused_update_is_an_error_of_its_own_kind_and_can_be_tried_again(actor):
    batch = make_batch()
    good = batch.advantages.copy()
    object.__setattr__(batch, "advantages", np.where(batch.loss_mask, np.nan, 0).astype(np.float32))
    with pytest.raises(NumericsError):
        get(actor.update.remote(batch, 0))
    object.__setattr__(batch, "advantages", good)
    get(actor.update.remote(batch, 0))
    assert get(actor.version.remote()) == 1
