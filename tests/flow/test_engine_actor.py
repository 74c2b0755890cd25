"""The engine as a Ray actor: round trip, coalescing, and what callers see when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from turnwise.cluster import actor_env
from turnwise.engine import Finish, Request
from turnwise.engine.actor import MAX_CONCURRENCY, EngineActor
from turnwise.engine.checksum import checksum
from turnwise.engine.client import EngineClient
from turnwise.engine.weights import arrays_of
from turnwise.errors import EngineError, WeightProofError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("model")
    config = Qwen3Config(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, eos_token_id=1, bos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def actor(cluster: None, folder: Path) -> Iterator[Any]:
    options = {"num_cpus": 0, "max_concurrency": MAX_CONCURRENCY, "runtime_env": {"env_vars": actor_env()}}
    made = (
        ray.remote(EngineActor)
        .options(**options)
        .remote(name="hf", options={"max_context": 64, "gather_s": 20.0}, model_path=str(folder), lockstep=True)
    )
    assert ray.get(made.ping.remote(), timeout=120)
    yield made
    ray.kill(made)


def ask(session: str, seed: int = 0, max_tokens: int = 5) -> Request:
    context = np.array([3, 4, 5 + seed], np.int32)
    return Request(session=session, context_ids=context, max_tokens=max_tokens, seed=seed, order=seed)


def test_requests_of_one_tick_are_one_call_and_weights_are_proven(actor: Any, folder: Path) -> None:
    async def scenario() -> None:
        client = EngineClient([actor], "rollout:0")
        names = [f"s{i}" for i in range(16)]
        client.open(names)
        found = await asyncio.gather(*(client.generate(ask(name, i), 60.0) for i, name in enumerate(names)))
        assert all(0 < len(done.ids) <= 5 and done.finish in (Finish.STOP, Finish.LENGTH) for done in found)
        status = await actor.status.remote()
        assert (status["calls"], status["gather_timeouts"]) == (1, 0)

        state = {name: array + 1 for name, array in arrays_of(AutoModelForCausalLM.from_pretrained(folder)).items()}
        reference = ray.put(state)
        receipt = await actor.update_weights.remote(1, checksum(state), reference)
        assert (receipt.version, receipt.checksum) == (1, checksum(state))
        client.close(names[1:])
        await client.drain()
        assert set((await client.generate(ask("s0"), 60.0)).versions) == {1}
        with pytest.raises(WeightProofError):
            await actor.update_weights.remote(2, "0", reference)
        with pytest.raises(EngineError, match="not proven"):
            await client.generate(ask("s0"), 60.0)

    asyncio.run(scenario())


def test_a_dead_engine_is_an_engine_error_for_every_caller(actor: Any) -> None:
    async def scenario() -> None:
        client = EngineClient([actor])
        client.open(["a", "never asks"])
        waiting = asyncio.create_task(client.generate(ask("a"), 60.0))
        await asyncio.sleep(0.5)
        ray.kill(actor)
        with pytest.raises(EngineError, match="lost"):
            await waiting
        with pytest.raises(EngineError, match="lost"):
            await client.generate(ask("a"), 60.0)

    asyncio.run(scenario())
