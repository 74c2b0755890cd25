"""What the learner tests share: a tiny model, a batch for it, and comparisons."""

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from turnwise.config.schema import LearnerConfig
from turnwise.learner.policy import Learner
from turnwise.records import Batch

VOCABULARY = 60

torch.set_num_threads(1)  # two threads on so small a model wait for each other, and for every other process


def save_model(folder, *, width=16, tied=True):
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=width // 2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text('{"not": "read by the learner"}')
    return folder


def learner(folder, *, seed=0, temperature=1.0, dtype="float32", objective=None, **options):
    options = {"lr": 1e-3, "updates": 20, "minibatches": 2, "micro_batch_tokens": 64} | options
    config = LearnerConfig(objective={"name": "ppo", **(objective or {})}, **options)
    return Learner(folder, config, seed=seed, temperature=temperature, dtype=dtype, device="cpu")


def make_batch(seed=0, *, num_trajectories=6, version=0, split_first=True):
    """Trajectories of one to three turns of odd lengths; the first has two contexts."""
    rng = np.random.default_rng(seed)
    rows, trajectories = [], []
    for i in range(num_trajectories):
        for _ in range(2 if i == 0 and split_first else 1):
            rows.append([(int(rng.integers(2, 9)), int(rng.integers(1, 5))) for _ in range(int(rng.integers(1, 4)))])
            trajectories.append(i)
    mask = np.concatenate([np.r_[np.zeros(o, bool), np.ones(a, bool)] for row in rows for o, a in row])
    lengths = [sum(o + a for o, a in row) for row in rows]
    first = [sum(len(rows[m]) for m in range(n) if trajectories[m] == trajectories[n]) for n in range(len(rows))]
    turns = np.concatenate(
        [np.r_[np.full(o, -1), np.full(a, k)] for n, row in enumerate(rows) for k, (o, a) in enumerate(row, first[n])]
    )
    size = len(mask)
    return Batch(
        ids=rng.integers(2, VOCABULARY, size).astype(np.int32),
        positions=np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        turn_ids=turns.astype(np.int32),
        loss_mask=mask,
        logprobs=np.where(mask, rng.normal(-4.0, 0.3, size), 0.0).astype(np.float32),
        advantages=np.where(mask, rng.normal(size=size), 0.0).astype(np.float32),
        versions=np.where(mask, version, -1).astype(np.int32),
        row_offsets=np.r_[0, np.cumsum(lengths)].astype(np.int32),
        row_trajectories=np.asarray(trajectories, dtype=np.int32),
    )


def weights(found):
    return found.export()[2]


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def reference_logprobs(model, batch, temperature=1.0):
    """Return [T] log-probabilities of the trained tokens, row by row with all logits; 0 elsewhere."""
    found = np.zeros(len(batch.ids), dtype=np.float32)
    for row in range(batch.num_rows):
        start, stop = batch.row_offsets[row : row + 2]
        ids = torch.from_numpy(batch.ids[start:stop].astype(np.int64))[None]
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids).logits[0].float() / temperature, dim=-1)
        for position in np.flatnonzero(batch.loss_mask[start:stop]):
            found[start + position] = logp[position - 1, ids[0, position]]
    return found
