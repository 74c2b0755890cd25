"""The embedded engine against plain forward passes of the stock model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen3Config

from turnwise.engine import Completion, Finish, Request
from turnwise.engine.checksum import checksum
from turnwise.engine.hf import HfEngine
from turnwise.engine.weights import arrays_of
from turnwise.errors import EngineError, UserError, WeightProofError
from turnwise.records import Failure, IntArray

VOCABULARY = 50
EOS = [1, 2]

CONFIGS: dict[str, Any] = {
    "qwen3": lambda: Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        head_dim=8, intermediate_size=48, tie_word_embeddings=True, eos_token_id=EOS, bos_token_id=0, pad_token_id=0,
    ),
    "llama": lambda: LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, eos_token_id=EOS, bos_token_id=0, pad_token_id=0,
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=EOS, bos_token_id=0,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        made[name] = tmp_path_factory.mktemp(name)
        model = AutoModelForCausalLM.from_config(config())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0)  # sharper distributions than those of a fresh model
        model.save_pretrained(made[name])
    return made


def stock(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


@contextmanager
def engine(folder: Path, *, lockstep: bool = False, **options: Any) -> Iterator[HfEngine]:
    made = HfEngine(HfEngine.Config(**{"threads": 1, "max_context": 128, **options}), folder, lockstep=lockstep)
    try:
        yield made
    finally:
        made.shutdown()


async def results(made: HfEngine, requests: Sequence[Request]) -> list[Completion | Failure]:
    found: dict[int, Completion | Failure] = {}
    async with asyncio.timeout(60):
        async for chunk in made.generate(requests):
            found.update(chunk)
    return [found[index] for index in range(len(requests))]


async def completions(made: HfEngine, requests: Sequence[Request]) -> list[Completion]:
    found = await results(made, requests)
    assert all(isinstance(each, Completion) for each in found), found
    return found  # type: ignore[return-value]


def random_ids(rng: np.random.Generator, num: int) -> IntArray:
    return rng.integers(3, VOCABULARY, num).astype(np.int32)


def expected_logprobs(model: Any, context: IntArray, action: IntArray, temperature: float = 1.0) -> np.ndarray:
    ids = torch.from_numpy(np.concatenate([context, action]).astype(np.int64))[None]
    with torch.no_grad():
        logits = model(ids).logits[0, len(context) - 1 : -1]
    chosen = torch.from_numpy(action.astype(np.int64))[:, None]
    return torch.log_softmax(logits / (temperature or 1.0), -1).gather(1, chosen)[:, 0].numpy()


async def play(made: HfEngine, model: Any, num: int, turns: int, seed: int, temperature: float = 1.0) -> None:
    """Play ragged episodes of several turns, and compare every log-probability with the stock model's."""
    rng = np.random.default_rng(seed)
    contexts = [random_ids(rng, int(rng.integers(1, 20))) for _ in range(num)]
    for turn in range(turns):
        requests = [
            Request(
                session=f"{seed}/{i}",
                context_ids=context,
                max_tokens=int(rng.integers(1, 7)),
                seed=turn * 99 + i,
                temperature=temperature,
            )
            for i, context in enumerate(contexts)
        ]
        for i, done in enumerate(await completions(made, requests)):
            assert np.allclose(done.logprobs, expected_logprobs(model, contexts[i], done.ids, temperature), atol=1e-5)
            assert (done.finish is Finish.STOP) == (done.ids[-1] in EOS)
            assert not np.isin(done.ids[:-1], EOS).any()
            assert len(done.ids) == requests[i].max_tokens or done.finish is Finish.STOP
            contexts[i] = np.concatenate([contexts[i], done.ids, random_ids(rng, int(rng.integers(0, 12)))])


@pytest.mark.parametrize("name", list(CONFIGS))
def test_log_probabilities_are_the_stock_models_over_ragged_turns(folders: dict[str, Path], name: str) -> None:
    with engine(folders[name], slots=8) as made:
        asyncio.run(play(made, stock(folders[name]), num=6, turns=4, seed=1, temperature=0.8))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_slots_are_reused_and_evicted_without_a_trace(folders: dict[str, Path], name: str) -> None:
    with engine(folders[name], slots=3) as made:
        model = stock(folders[name])
        asyncio.run(play(made, model, num=7, turns=3, seed=1))
        made.close([f"1/{i}" for i in range(7)])
        asyncio.run(play(made, model, num=2, turns=3, seed=2))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_greedy_is_transformers_generate(folders: dict[str, Path], name: str) -> None:
    model = stock(folders[name])
    rng = np.random.default_rng(0)
    contexts = [random_ids(rng, length) for length in (1, 5, 17, 40)]
    with engine(folders[name]) as made:
        requests = [
            Request(session=str(i), context_ids=c, max_tokens=12, temperature=0.0) for i, c in enumerate(contexts)
        ]
        found = asyncio.run(completions(made, requests))
    for context, done in zip(contexts, found, strict=True):
        ids = torch.from_numpy(context.astype(np.int64))[None]
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[
            0, len(context) :
        ]
        assert done.ids.tolist() == plain.tolist()
        assert np.allclose(done.logprobs, expected_logprobs(model, context, done.ids), atol=1e-5)


def test_only_new_tokens_are_prefilled(folders: dict[str, Path]) -> None:
    with engine(folders["qwen3"]) as made:
        rng = np.random.default_rng(0)
        context = random_ids(rng, 30)
        first = asyncio.run(completions(made, [Request(session="a", context_ids=context, max_tokens=4)]))[0]
        table = made._stepper._table
        assert table.num_cached[0] == 30 + len(first.ids) - 1
        longer = np.concatenate([context, first.ids, random_ids(rng, 5)])
        assert table._shared_prefix(0, longer) == 30 + len(first.ids) - 1
        longer[10] += 1
        assert table._shared_prefix(0, longer) == 10
        assert table._shared_prefix(0, context[:7]) == 6


def test_a_long_prompt_does_not_pad_the_others_and_long_contexts_go_in_chunks(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnwise.engine.stepper.CHUNK", 16)
    model = stock(folders["llama"])
    rng = np.random.default_rng(0)
    contexts = [random_ids(rng, length) for length in (100, 3, 4, 40, 5)]
    with engine(folders["llama"]) as made:
        requests = [Request(session=str(i), context_ids=c, max_tokens=5, seed=i) for i, c in enumerate(contexts)]
        found = asyncio.run(completions(made, requests))
    for context, done in zip(contexts, found, strict=True):
        assert np.allclose(done.logprobs, expected_logprobs(model, context, done.ids), atol=1e-5)


def test_a_result_depends_on_the_seed_and_not_on_the_company(folders: dict[str, Path]) -> None:
    rng = np.random.default_rng(0)
    wanted = Request(session="w", context_ids=random_ids(rng, 9), max_tokens=8, seed=5)
    company = [Request(session=str(i), context_ids=random_ids(rng, 5 + i), max_tokens=8, seed=i) for i in range(5)]
    with engine(folders["qwen3"]) as made:
        alone = asyncio.run(completions(made, [wanted]))[0]
        made.close(["w"])
        together = asyncio.run(completions(made, [*company, wanted]))[-1]
    assert alone.ids.tolist() == together.ids.tolist()
    assert np.allclose(alone.logprobs, together.logprobs, atol=1e-5)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_after_a_weight_update_nothing_old_is_left(folders: dict[str, Path], name: str) -> None:
    model = stock(folders[name])
    with engine(folders[name], slots=4) as made:
        rng = np.random.default_rng(0)
        context = random_ids(rng, 20)
        asyncio.run(completions(made, [Request(session="a", context_ids=context, max_tokens=3)]))
        state = new_weights(model)
        receipt = asyncio.run(made.update_weights(3, checksum(state), state))
        assert (receipt.version, receipt.checksum) == (3, checksum(state))
        done = asyncio.run(completions(made, [Request(session="a", context_ids=context, max_tokens=6)]))[0]
        assert np.allclose(done.logprobs, expected_logprobs(model, context, done.ids), atol=1e-5)
        assert set(done.versions) == {3}
        again = asyncio.run(made.update_weights(3, checksum(state), {}))
        assert again.checksum == checksum(state), "idempotent: the empty state is not even looked at"


def new_weights(model: Any) -> dict[str, np.ndarray]:
    """Change the stock model, and return its weights."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return {name: array.copy() for name, array in arrays_of(model).items()}


def test_an_update_in_the_middle_of_a_request_goes_on_under_the_new_weights(folders: dict[str, Path]) -> None:
    old, model = stock(folders["qwen3"]), stock(folders["qwen3"])
    for each in (old, model):
        each.generation_config.eos_token_id = None
    state = new_weights(model)
    context = random_ids(np.random.default_rng(0), 10)

    async def run(made: HfEngine) -> Completion:
        made._stepper._ends[:] = False  # no early end
        task = asyncio.create_task(completions(made, [Request(session="a", context_ids=context, max_tokens=110)]))
        while made.status()["tokens_sampled"] < 5:
            await asyncio.sleep(0.001)
        await made.update_weights(1, checksum(state), state)
        return (await task)[0]

    with engine(folders["qwen3"]) as made:
        done = asyncio.run(run(made))
    num_old = int((done.versions == 0).sum())
    assert 5 <= num_old < 110, "the update fell outside the request"
    assert done.versions.tolist() == [0] * num_old + [1] * (110 - num_old)
    before = expected_logprobs(old, context, done.ids)[:num_old]
    after = expected_logprobs(model, context, done.ids)[num_old:]
    assert np.allclose(done.logprobs, np.concatenate([before, after]), atol=1e-5)


def test_a_wrong_checksum_is_refused_and_so_is_sampling_until_weights_are_proven(folders: dict[str, Path]) -> None:
    state = new_weights(stock(folders["llama"]))
    request = Request(session="a", context_ids=random_ids(np.random.default_rng(0), 5), max_tokens=3)
    with engine(folders["llama"]) as made:
        with pytest.raises(WeightProofError, match="checksum"):
            asyncio.run(made.update_weights(1, "0" * 32, state))
        refused = asyncio.run(results(made, [request]))[0]
        assert isinstance(refused, Failure)
        assert "not proven" in refused.cause
        assert made.status()["refuses"]
        asyncio.run(made.update_weights(1, checksum(state), state))
        assert set(asyncio.run(completions(made, [request]))[0].versions) == {1}


def test_lock_step_is_bit_identical_whatever_the_arrival(folders: dict[str, Path]) -> None:
    async def run(seed: int, close_s: float) -> list[bytes]:
        delays = np.random.default_rng(seed)  # differs between the runs
        with engine(folders["qwen3"], lockstep=True, slots=6, gather_s=20.0) as made:

            async def episode(index: int) -> bytes:
                rng = np.random.default_rng(index)
                session, context, record = f"e{index}", random_ids(rng, 3 + index), b""
                for turn in range(4 if index % 3 else 2):
                    await asyncio.sleep(float(delays.random()) * 0.02)
                    request = Request(
                        session=session, context_ids=context, max_tokens=5, seed=index * 9 + turn, order=index
                    )
                    (done,) = await completions(made, [request])
                    record += done.ids.tobytes() + done.logprobs.tobytes()
                    context = np.concatenate([context, done.ids, random_ids(rng, 4)])
                await asyncio.sleep(close_s)
                made.close([session])
                return record

            made.open([f"e{i}" for i in range(9)])
            records = await asyncio.gather(*(episode(i) for i in delays.permutation(9)))
            assert made.status()["gather_timeouts"] == 0
        return sorted(records)

    # nine sessions share six slots: when a closed one's slot is freed must not matter either
    assert asyncio.run(run(1, close_s=0.0)) == asyncio.run(run(2, close_s=0.15))


def test_closing_a_session_aborts_its_request(folders: dict[str, Path]) -> None:
    context = random_ids(np.random.default_rng(0), 5)

    async def run(made: HfEngine) -> list[Completion]:
        made._stepper._ends[:] = False
        requests = [Request(session=s, context_ids=context, max_tokens=100) for s in ("a", "b")]
        task = asyncio.create_task(completions(made, requests))
        while made.status()["tokens_sampled"] < 5:
            await asyncio.sleep(0.001)
        made.close(["a", "never seen"])
        return await task

    with engine(folders["gpt2"]) as made:
        aborted, whole = asyncio.run(run(made))
    assert aborted.finish is Finish.ABORT
    assert 0 < len(aborted.ids) == len(aborted.logprobs) == len(aborted.versions) < 100
    assert (whole.finish, len(whole.ids)) == (Finish.LENGTH, 100)


def test_impossible_requests_fail_alone_and_name_the_figures(folders: dict[str, Path]) -> None:
    good = random_ids(np.random.default_rng(0), 5)
    bad = {
        "200 tokens .* max_context=128": Request(session="1", context_ids=np.ones(200, np.int32), max_tokens=3),
        "empty": Request(session="2", context_ids=np.zeros(0, np.int32), max_tokens=3),
        "ids outside the model's 50": Request(session="3", context_ids=np.array([99], np.int32), max_tokens=3),
        "max_tokens=0": Request(session="4", context_ids=good, max_tokens=0),
        "temperature=nan": Request(session="5", context_ids=good, max_tokens=1, temperature=float("nan")),
    }
    with engine(folders["llama"]) as made:
        found = asyncio.run(results(made, [*bad.values(), Request(session="6", context_ids=good, max_tokens=3)]))
    assert isinstance(found.pop(), Completion)
    for pattern, failure in zip(bad, found, strict=True):
        assert isinstance(failure, Failure)
        with pytest.raises(EngineError, match=pattern):
            raise EngineError(failure.cause)


def test_the_action_ends_where_the_slot_does(folders: dict[str, Path]) -> None:
    with engine(folders["gpt2"], max_context=1000) as made:  # the model itself has 256 positions
        made._stepper._ends[:] = False
        context = random_ids(np.random.default_rng(0), 250)
        done = asyncio.run(completions(made, [Request(session="a", context_ids=context, max_tokens=50)]))[0]
    assert (len(done.ids), done.finish) == (6, Finish.LENGTH)
    assert np.allclose(done.logprobs, expected_logprobs(stock(folders["gpt2"]), context, done.ids), atol=1e-5)


def test_what_the_model_raises_reaches_the_callers_and_the_engine_goes_on(folders: dict[str, Path]) -> None:
    request = Request(session="a", context_ids=random_ids(np.random.default_rng(0), 5), max_tokens=3)

    def out_of_memory(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory: tried to allocate 9 GiB")

    with engine(folders["llama"]) as made:
        forward = made._stepper._model.forward
        made._stepper._model.forward = out_of_memory
        failure = asyncio.run(results(made, [request]))[0]
        assert isinstance(failure, Failure)
        assert "tried to allocate 9 GiB" in failure.cause
        made._stepper._model.forward = forward
        assert len(asyncio.run(completions(made, [request]))[0].ids)


def test_what_is_not_finite_fails_its_request_and_leaves_no_trace(folders: dict[str, Path]) -> None:
    model = stock(folders["llama"])
    rng = np.random.default_rng(0)
    poisoned, short, long = (random_ids(rng, length) for length in (30, 4, 40))
    poisoned[2:] = 7
    short[short == 7], long[long == 7] = 8, 8
    with engine(folders["llama"], slots=2) as made, torch.no_grad():
        made._stepper._ends[:] = False
        made._stepper._model.get_input_embeddings().weight[7] = float("nan")
        failure = asyncio.run(results(made, [Request(session="a", context_ids=poisoned, max_tokens=3)]))[0]
        assert isinstance(failure, Failure)
        assert "not finite" in failure.cause
        made.close(["a"])  # the next session gets its slot, and reads as many columns as the longer one needs
        requests = [Request(session=str(len(c)), context_ids=c, max_tokens=3) for c in (short, long)]
        done = asyncio.run(completions(made, requests))[0]
    assert np.allclose(done.logprobs, expected_logprobs(model, short, done.ids), atol=1e-5)


def test_a_context_that_is_begun_anew_is_not_read_from_the_old_cache(folders: dict[str, Path]) -> None:
    model, rng = stock(folders["qwen3"]), np.random.default_rng(0)
    context = random_ids(rng, 20)
    with engine(folders["qwen3"]) as made:
        for start in (20, 10, 0):  # from where on the context differs from the one before
            context = np.concatenate([context[:start], random_ids(rng, 25)])
            done = asyncio.run(completions(made, [Request(session="a", context_ids=context, max_tokens=4)]))[0]
            assert np.allclose(done.logprobs, expected_logprobs(model, context, done.ids), atol=1e-5)


def test_after_shutdown_running_requests_are_aborted_and_new_ones_fail(folders: dict[str, Path]) -> None:
    request = Request(session="a", context_ids=random_ids(np.random.default_rng(0), 5), max_tokens=100)

    async def run(made: HfEngine) -> Completion:
        made._stepper._ends[:] = False
        task = asyncio.create_task(completions(made, [request]))
        while made.status()["tokens_sampled"] < 3:
            await asyncio.sleep(0.001)
        made.shutdown()
        return (await task)[0]

    with engine(folders["llama"]) as made:
        assert asyncio.run(run(made)).finish is Finish.ABORT
        with pytest.raises(EngineError, match="shut down"):
            asyncio.run(results(made, [request]))
        with pytest.raises(EngineError, match="shut down"):
            asyncio.run(made.update_weights(1, "", {}))


def test_a_caller_that_goes_away_takes_its_requests_along(folders: dict[str, Path]) -> None:
    request = Request(session="a", context_ids=random_ids(np.random.default_rng(0), 5), max_tokens=120)

    async def run(made: HfEngine) -> None:
        made._stepper._ends[:] = False
        task = asyncio.create_task(results(made, [request]))
        while made.status()["tokens_sampled"] < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await completions(made, [Request(session="b", context_ids=request.context_ids, max_tokens=1)])
        assert made.status()["running"] == made.status()["waiting"] == 0
        assert made.status()["tokens_sampled"] < 120

    with engine(folders["llama"]) as made:
        asyncio.run(run(made))


@pytest.mark.parametrize(
    ("options", "dtype", "field"),
    [
        ({"slots": 0}, "float32", "engine.slots"),
        ({"batching": "sometimes"}, "float32", "engine.batching"),
        ({"gather_s": -1.0}, "float32", "engine.gather_s"),
        ({}, "float8", "model.dtype"),
    ],
)
def test_bad_options_are_the_users_errors(folders: dict[str, Path], options: Any, dtype: str, field: str) -> None:
    with pytest.raises(UserError) as caught:
        HfEngine(HfEngine.Config(**options), folders["llama"], dtype=dtype)
    assert caught.value.field == field


def test_models_that_cannot_be_served_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model there"):
        HfEngine(HfEngine.Config(), tmp_path)
    config = MistralConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=16, sliding_window=8,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="attention"):
        HfEngine(HfEngine.Config(), tmp_path)
    HfEngine(HfEngine.Config(max_context=8), tmp_path).shutdown()


def test_bfloat16_weights_are_loaded_and_proven(folders: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders["qwen3"], dtype=torch.bfloat16)
    state = {name: array.copy() for name, array in arrays_of(model).items()}
    made = HfEngine(HfEngine.Config(threads=1), folders["qwen3"], dtype="bfloat16")
    try:
        assert made.status()["checksum"] == checksum(state)
        name = "model.norm.weight"
        state[name] = state[name] + np.uint16(1)
        asyncio.run(made.update_weights(1, checksum(state), state))
        assert len(
            asyncio.run(completions(made, [Request(session="a", context_ids=np.array([3], np.int32), max_tokens=2)]))[
                0
            ].ids
        )
    finally:
        made.shutdown()
