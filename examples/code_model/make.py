"""Train the code model from nothing, on functions of the standard library with drawn bugs, and write its recipe too.

Run by hand, once a version of the model: `make code-model`. It learns what a function looks like that somebody wrote
so, and nothing of packages and of tests: that is for reinforcement learning.
"""

import argparse
import hashlib
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from code_model.lessons import Lesson, lessons, sources
from code_model.words import build_tokenizer
from tiny_model.tokenizer import END, PAD

SEED: Final = 0
NUM_LESSONS: Final = 36_000
NUM_FRESH: Final = 1_000
HELD_OUT: Final = 10  # every tenth function is for measuring
EPOCHS: Final = 4
ROWS: Final = 32
PEAK_LR: Final = 2.5e-3
SHIPPED: Final = Path(__file__).parents[2] / "agents" / "turnwise_agents" / "tiny_code"

Encoded = tuple[np.ndarray, np.ndarray]  # ids [length], loss weights [length]


def build_model(seed: int = SEED) -> Qwen3ForCausalLM:
    """Build the model with random weights."""
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        bos_token_id=None,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(2.5)
    return model


def encoded(count: int, seed: int, is_fresh: bool) -> list[Encoded]:
    """Return lessons over the functions that training reads, or over the held-out ones."""
    found = [source for i, source in enumerate(sources()) if (i % HELD_OUT == 0) == is_fresh]
    tokenizer = build_tokenizer()
    return [encode(lesson, tokenizer) for lesson in lessons(found, count, seed)]


def encode(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Return token ids and loss weights of a lesson."""
    ids, weights = [], []
    for text, weight in lesson.pieces:
        tokens = tokenizer.encode(text, add_special_tokens=False)
        ids += tokens
        weights += [weight] * len(tokens)
    return np.array(ids, dtype=np.int64), np.array(weights, dtype=np.float32)


def batches(found: Sequence[Encoded], rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches of lessons of similar length, in a random order."""
    by_length = sorted(range(len(found)), key=lambda i: (len(found[i][0]), rng.random()))
    groups = [by_length[i : i + ROWS] for i in range(0, len(by_length), ROWS)]
    for number in rng.permutation(len(groups)):
        rows = [found[i] for i in groups[number]]
        longest = max(len(ids) for ids, _ in rows)
        yield (
            torch.from_numpy(np.stack([np.pad(ids, (0, longest - len(ids))) for ids, _ in rows])),
            torch.from_numpy(np.stack([np.pad(weights, (0, longest - len(weights))) for _, weights in rows])),
        )


def train(model: Qwen3ForCausalLM, found: Sequence[Encoded], seed: int) -> list[float]:
    """Train in place and return the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    rng, losses, began = np.random.default_rng(seed), [], time.monotonic()
    total = EPOCHS * math.ceil(len(found) / ROWS)
    for _ in range(EPOCHS):
        for ids, weights in batches(found, rng):
            step = len(losses)
            for group in optimizer.param_groups:
                group["lr"] = PEAK_LR * min(1.0, (step + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * step / total))
            loss = _loss(model, ids, weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
            if step % 50 == 0:
                print(step, total, round(float(np.mean(losses[-50:])), 4), int(time.monotonic() - began), flush=True)
    return losses


def _loss(model: Qwen3ForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    chosen = weights[:, 1:] > 0
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[chosen]
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][chosen], reduction="none")
    return (losses * weights[:, 1:][chosen]).sum() / weights[:, 1:].sum()


@torch.no_grad()
def measure(model: Qwen3ForCausalLM, found: Sequence[Encoded]) -> dict[str, float]:
    """Return how often the right line, and the right edit as a whole, is the likeliest, with what came before given."""
    line = whole = 0
    for ids, weights in found:
        start = int(np.flatnonzero(weights == 1.0)[0])
        logits = model(torch.from_numpy(ids)[None]).logits[0, start - 1 : -1]
        hits = (logits.argmax(-1).numpy() == ids[start:]).tolist()
        line += hits[1]
        whole += all(hits)
    return {"line": line / len(found), "edit": whole / len(found)}


def drawn(count: int, processes: int, kept: Path | None) -> tuple[list[Encoded], list[Encoded]]:
    """Return lessons to train on and fresh ones; drawing takes minutes, so a file may keep them for the next time."""
    if kept is not None and kept.exists():
        with np.load(kept) as arrays:
            ids, weights, offsets = arrays["ids"], arrays["weights"], arrays["offsets"]
        rows = [(ids[a:b], weights[a:b]) for a, b in itertools.pairwise(offsets)]
        return rows[NUM_FRESH:], rows[:NUM_FRESH]
    with ProcessPoolExecutor(processes) as pool:
        shares = [pool.submit(encoded, count // 8, SEED + 1 + i, False) for i in range(8)]
        fresh = pool.submit(encoded, NUM_FRESH, SEED, True).result()
        found = [row for share in shares for row in share.result()]
    if kept is not None:
        rows = [*fresh, *found]
        ids, weights = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
        np.savez(kept, ids=ids, weights=weights, offsets=np.cumsum([0, *(len(row[0]) for row in rows)]))
    return found, fresh


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=SHIPPED, help="folder to write")
    parser.add_argument("--lessons", type=int, default=NUM_LESSONS)
    parser.add_argument("--lessons-file", type=Path, help="an .npz file that keeps the lessons, read if it is there")
    parser.add_argument("--processes", type=int, default=2, help="for drawing lessons")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    found, fresh = drawn(given.lessons, given.processes, given.lessons_file)
    print(len(found), "lessons", int(time.monotonic() - began), "s", flush=True)
    model = build_model()
    losses = train(model, found, SEED)
    accuracy = measure(model, fresh)
    model.save_pretrained(given.output)
    weights = given.output / "model.safetensors"
    weights.chmod(0o644)  # the library leaves it readable for its owner only
    build_tokenizer().save_pretrained(given.output)
    recipe = {
        "seed": SEED, "lessons": len(found), "epochs": EPOCHS, "rows": ROWS, "peak_lr": PEAK_LR,
        "python": sys.version.split()[0], "torch": torch.__version__,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "held_out_accuracy": accuracy, "last_loss": float(np.mean(losses[-20:])),
    }  # fmt: skip
    (given.output / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(json.dumps(recipe, indent=2))


if __name__ == "__main__":
    main()
