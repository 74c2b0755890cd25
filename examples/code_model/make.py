"""Train the code model from nothing, on functions of the standard library with drawn bugs, and write its recipe too.

Run by hand, once a version of the model: `make code-model`. It learns what a function looks like that somebody wrote
so, and nothing of packages and of tests: that is for reinforcement learning.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from code_model.lessons import Lesson, lessons, sources
from code_model.words import build_tokenizer
from tiny_model.tokenizer import END, PAD


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One pass of the recipe."""

    num_lessons: int
    num_functions: int  # shown in a lesson, at most
    epochs: int
    peak_lr: float


SEED: Final = 0
STAGES: Final = (
    Stage(num_lessons=64_000, num_functions=1, epochs=1, peak_lr=2.5e-3),
    Stage(num_lessons=14_000, num_functions=6, epochs=1, peak_lr=1.2e-3),
)
ROWS: Final = 32
NUM_FRESH: Final = 1_000
HELD_OUT: Final = 10  # every tenth file is for measuring
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


def encoded(count: int, seed: int, num_functions: int, is_fresh: bool) -> list[Encoded]:
    """Return lessons over the files that training reads, or over the held-out ones."""
    found = [file for i, file in enumerate(sources()) if (i % HELD_OUT == 0) == is_fresh]
    tokenizer = build_tokenizer()
    return [encode(lesson, tokenizer) for lesson in lessons(found, count, seed, num_functions)]


def encode(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Return token ids and loss weights of a lesson."""
    ids: list[int] = []
    weights: list[float] = []
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


def train(model: Qwen3ForCausalLM, found: Sequence[Encoded], stage: Stage, seed: int) -> list[float]:
    """Train in place and return the loss of every step; cosine to a fiftieth of the peak."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    rng, losses, began = np.random.default_rng(seed), [], time.monotonic()
    total = stage.epochs * math.ceil(len(found) / ROWS)
    for _ in range(stage.epochs):
        for ids, weights in batches(found, rng):
            step = len(losses)
            share = min(1.0, (step + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = stage.peak_lr * share
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
def measure(model: Qwen3ForCausalLM, found: Sequence[Encoded]) -> float:
    """Return how often the right edit is the likeliest, with what came before given."""
    right = 0
    for ids, weights in found:
        place = int(np.flatnonzero(weights == 1.0)[1])  # of its number, after `fix`
        logits = model.lm_head(model.model(input_ids=torch.from_numpy(ids)[None, :place]).last_hidden_state[0, -1])
        right += int(logits.argmax()) == int(ids[place])
    return right / len(found)


def drawn(number: int, stage: Stage, processes: int) -> list[Encoded]:
    """Return the lessons of a stage; minutes of drawing."""
    with ProcessPoolExecutor(processes) as pool:
        seeds = [SEED + 1 + 100 * number + i for i in range(8)]
        shares = [pool.submit(encoded, stage.num_lessons // 8, seed, stage.num_functions, False) for seed in seeds]
        return [row for share in shares for row in share.result()]


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=SHIPPED, help="folder to write")
    parser.add_argument("--start", type=Path, help="a folder with the weights of all stages but the last")
    parser.add_argument("--processes", type=int, default=2, help="for drawing lessons")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = Qwen3ForCausalLM.from_pretrained(given.start) if given.start else build_model()
    losses: list[float] = []
    for number, stage in enumerate(STAGES):
        if not given.start or number + 1 == len(STAGES):
            losses += train(model, drawn(number, stage, given.processes), stage, SEED + number)
    save(model, given.output, losses)


def save(model: Qwen3ForCausalLM, output: Path, losses: Sequence[float]) -> None:
    """Measure the model on fresh lessons, and save it with its tokenizer and recipe."""
    accuracy: dict[str, float] = {}
    for stage in STAGES:
        fresh = encoded(NUM_FRESH, SEED, stage.num_functions, is_fresh=True)
        accuracy[f"{stage.num_functions} functions at most"] = measure(model, fresh)
    model.save_pretrained(output)
    weights = output / "model.safetensors"
    weights.chmod(0o644)  # the library leaves it readable for its owner only
    build_tokenizer().save_pretrained(output)
    recipe: dict[str, Any] = {
        "seed": SEED,
        "stages": [asdict(stage) for stage in STAGES],
        "rows": ROWS,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "held_out_accuracy": accuracy,
        "last_loss": float(np.mean(losses[-20:])),
    }
    (output / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(json.dumps(recipe, indent=2))


if __name__ == "__main__":
    main()
