"""Train the base model of code from nothing and write it with its recipe: `make code-model`.

The lessons are those of `lessons.py`, in three stages: repeating, naming what is listed, undoing an edit. The loss is
that of what is to be said and, where it is no noise, a small share of every other token's.

The last layer begins as a copier: what its attention looks at comes out as the likeliest token. Without that copying
had not emerged when the first stage was over (accuracy 0.01 after 75 steps; with it 0.96).
"""

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import tokenizers
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from code_model.lessons import Lesson, listing, repeating, undoing
from code_model.tokenizer import build_tokenizer
from tiny_model.tokenizer import END, PAD
from turnwise_envs.swe import compact, operators, repairs

SEED: Final = 0
SHIPPED: Final = Path(__file__).parents[2] / "agents" / "turnwise_agents" / "tiny_code"
REPEATS = ((8, 25_600), (16, 12_800), (48, 5_120))  # words at most, lessons
NUM_LISTINGS, NUM_LESSONS, NUM_HELD = 12_000, 8_000, 400
REPEAT_ROWS, LISTING_ROWS, LESSON_ROWS, PASSES = 256, 128, 24, 2
MAX_TOKENS: Final = 900
PEAK_LR, WARMUP_STEPS, FINAL_SHARE, DECAY = 3e-3, 50, 0.03, 0.01
OTHERS_SHARE: Final = 0.1  # of the loss: of tokens that are no attempt
SHARD: Final = 250  # lessons that one seed draws

Row = tuple[list[int], int]  # token ids; how many of them were told


def draw(kind: Callable[[np.random.Generator], Lesson | None], count: int, seed: int) -> list[Lesson]:
    """Draw lessons, on all cores; the same ones for a seed."""
    seeds = range(seed, seed + math.ceil(count / SHARD))
    with ProcessPoolExecutor() as pool:
        found = pool.map(_shard, [kind] * len(seeds), seeds)
        return [lesson for shard in found for lesson in shard][:count]


def _shard(kind: Callable[[np.random.Generator], Lesson | None], seed: int) -> list[Lesson]:
    rng = np.random.default_rng(seed)
    found: list[Lesson] = []
    while len(found) < SHARD:
        lesson = kind(rng)
        found += [lesson] if lesson is not None else []
    return found


def encode(lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Return the lessons as token ids, without those that are too long."""
    rows = [(tokenizer.encode(lesson.told), tokenizer.encode(lesson.said)) for lesson in lessons]
    return [(told + said, len(told) + 1) for told, said in rows if len(told) + len(said) <= MAX_TOKENS]


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Build the model: random weights, sharper ones than the library's default, and the last layer a copier."""
    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        bos_token_id=None,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(2.5)
        for layer in model.model.layers:
            layer.self_attn.q_norm.weight.mul_(1.4)
            layer.self_attn.k_norm.weight.mul_(1.4)
        turned, _ = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size))
        last = model.model.layers[-1].self_attn
        last.v_proj.weight.copy_(turned)
        last.o_proj.weight.copy_(2 * turned.T)
    return model


def batches(rows: Sequence[Row], size: int, rng: np.random.Generator) -> list[list[Row]]:
    """Return the rows in batches of similar length, in random order."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + 40 * rng.random())
    found = [[rows[i] for i in order[at : at + size]] for at in range(0, len(order) - size + 1, size)]
    return [found[int(i)] for i in rng.permutation(len(found))]


def losses(model: Qwen3ForCausalLM, batch: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss of the attempts' tokens, that of the others, and which attempts are right in every token."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.full((len(batch), length), model.config.pad_token_id)
    said, other = torch.zeros(len(batch), length, dtype=torch.bool), torch.zeros(len(batch), length, dtype=torch.bool)
    for i, (row, told) in enumerate(batch):
        ids[i, : len(row)] = torch.tensor(row)
        said[i, told : len(row)] = True
        other[i, 1:told] = True
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    target, said, other = ids[:, 1:], said[:, 1:], other[:, 1:]
    right = ((logits.argmax(-1) == target) | ~said).all(-1)
    return cross_entropy(logits[said], target[said]), cross_entropy(logits[other], target[other]), right


def train(
    model: Qwen3ForCausalLM,
    steps: Sequence[tuple[float, list[Row]]],
    after_step: Callable[[int, str], None] = lambda step, report: None,
) -> list[float]:
    """Train in place, a step a batch with its share of the other tokens' loss; return the loss of what is said."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=DECAY, fused=True)
    found = []
    for step, (share, batch) in enumerate(steps):
        started = time.perf_counter()
        cosine = 0.5 * (1 + math.cos(math.pi * step / len(steps)))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, (step + 1) / WARMUP_STEPS) * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)
        said, other, right = losses(model, batch)
        torch.autograd.backward(said + share * other)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append(float(said.detach()))
        report = f"said {found[-1]:.3f} other {float(other.detach()):.3f} right {float(right.float().mean()):.2f}"
        after_step(step, f"{report} {time.perf_counter() - started:.2f} s")
    return found


@torch.no_grad()
def measure(model: Qwen3ForCausalLM, rows: Sequence[Row]) -> dict[str, float]:
    """Return how many attempts of held-out lessons are right, token by token chosen as the likeliest."""
    right = torch.cat([losses(model, rows[at : at + 20])[2] for at in range(0, len(rows), 20)])
    return {"right": round(float(right.float().mean()), 4)}


def source_sha256() -> str:
    """Hash every file of ours that the weights are a function of."""
    ours = [Path(module.__file__ or "") for module in (compact, operators, repairs)]
    paths = [*sorted(Path(__file__).parent.glob("*.py")), *ours]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def _recipe(output: Path, found: Sequence[float], accuracy: dict[str, float]) -> dict[str, Any]:
    versions = {module.__name__: str(module.__version__) for module in (np, tokenizers, torch, transformers)}
    return {
        "seed": SEED,
        "steps": len(found),
        "lessons": {"repeating": dict(REPEATS), "listing": NUM_LISTINGS, "undoing": NUM_LESSONS, "passes": PASSES},
        "versions": {"python": platform.python_version(), **versions},
        "threads": torch.get_num_threads(),
        "weights_sha256": hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest(),
        "source_sha256": source_sha256(),
        "accuracy": accuracy,
        "last_loss": float(np.mean(found[-20:])),
    }


def main() -> None:
    """Draw, train and save."""
    parser = argparse.ArgumentParser(description="Train the base model of code and write it with its recipe.")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="folder to write")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer, rng = build_tokenizer(), np.random.default_rng(SEED)
    repeats = [encode(draw(partial(repeating, most=most), count, most), tokenizer) for most, count in REPEATS]
    listings = encode(draw(listing, NUM_LISTINGS, 10_000), tokenizer)
    lessons = encode(draw(undoing, NUM_LESSONS, 20_000), tokenizer)
    held = encode(draw(partial(undoing, held=True), NUM_HELD, 30_000), tokenizer)
    steps = [(0.0, batch) for rows in repeats for batch in batches(rows, REPEAT_ROWS, rng)]
    steps += [(OTHERS_SHARE, batch) for batch in batches(listings, LISTING_ROWS, rng)]
    for _ in range(PASSES):
        steps += [(OTHERS_SHARE, batch) for batch in batches(lessons, LESSON_ROWS, rng)]
    model = build_model(tokenizer)
    found = train(model, steps, lambda step, text: print(f"step {step} of {len(steps)} {text}", flush=True))
    model.save_pretrained(arguments.output)
    (arguments.output / "model.safetensors").chmod(0o644)  # the library leaves it readable for its owner only
    tokenizer.save_pretrained(arguments.output)
    recipe = _recipe(arguments.output, found, measure(model, held))
    (arguments.output / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(json.dumps(recipe, indent=2))


if __name__ == "__main__":
    main()
