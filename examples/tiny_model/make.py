"""Train the tiny base model from nothing and write it with its recipe.

Run by hand, once a version of the model: `make base-model`. A test replays the first steps with `replay_losses` and
compares them with the shipped `recipe.json`. The weights of two machines differ in the last bits and so, after
thousands of steps, in every digit; the accuracies are what a new run must reach.
"""

import argparse
import hashlib
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import tokenizers
import torch
import transformers
from transformers import Qwen3ForCausalLM

from tiny_model.curriculum import COPYING, READING, SHORT, SHORTEST
from tiny_model.tokenizer import build_tokenizer
from tiny_model.train import Recipe, Schedule, Stage, build_model, measure, train
from turnwise_envs.search import lexicon, world

SEED: Final = 0
NUM_LAYERS: Final = 3
ROPE_BASE: Final = 100.0
RECIPE: Final = Recipe(
    schedule=Schedule(peak_lr=3e-3),
    stages=[  # copying begins in short rows: over 1,200 words it did not emerge in 300 steps of 128 tokens a row
        Stage(name="shortest", lessons=SHORTEST, steps=100, rows=256, length=16),
        Stage(name="short", lessons=SHORT, steps=250, rows=128, length=32),
        Stage(name="copy", lessons=COPYING, steps=250, rows=32, length=128),
        Stage(name="read", lessons=READING, steps=700, rows=40, length=256),
    ],
)
NUM_REPLAYED: Final = 5  # steps whose losses the recipe records for the replay
SHIPPED: Final = Path(__file__).parents[2] / "agents" / "turnwise_agents" / "tiny"
_FRESH_SEED: Final = 1_000_003  # of the rows that measure accuracy


def replay_losses(num_steps: int = NUM_REPLAYED) -> list[float]:
    """Train the first steps again and return their losses."""
    return train(build_model(SEED, NUM_LAYERS, ROPE_BASE), RECIPE, SEED, max_steps=num_steps)


def source_sha256() -> str:
    """Hash every file that the weights are a function of: this folder's modules, the lexicon and the world."""
    local = sorted(Path(__file__).parent.glob("*.py"))
    paths = [*local, Path(lexicon.__file__), Path(world.__file__)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def write_recipe(output: Path, losses: list[float], accuracy: dict[str, dict[str, float]]) -> None:
    """Write `recipe.json` beside the saved weights."""
    recipe = {
        "seed": SEED,
        "steps": len(losses),
        "schedule": asdict(RECIPE.schedule),
        "stages": [_describe(stage) for stage in RECIPE.stages],
        "versions": _versions(),
        "threads": torch.get_num_threads(),
        "weights_sha256": hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest(),
        "source_sha256": source_sha256(),
        "accuracy": accuracy,
        "first_losses": losses[:NUM_REPLAYED],
        "last_loss": float(np.mean(losses[-20:])),
    }
    (output / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")


def _describe(stage: Stage) -> dict[str, Any]:
    lessons = {lesson.__name__: weight for lesson, weight in stage.lessons.items()}
    return {"name": stage.name, "steps": stage.steps, "rows": stage.rows, "length": stage.length, "lessons": lessons}


def _versions() -> dict[str, str]:
    modules = (np, tokenizers, torch, transformers)
    return {"python": platform.python_version(), **{module.__name__: str(module.__version__) for module in modules}}


def _log(step: int, report: str) -> None:
    if step % 20 == 0:
        print(f"step {step} {report}", flush=True)


def save(model: Qwen3ForCausalLM, output: Path, losses: list[float]) -> None:
    """Measure the model on fresh rows, then save it with its tokenizer and its recipe."""
    accuracy = {lesson.__name__: measure(model, lesson, _FRESH_SEED) for lesson in READING}
    model.save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)  # the library leaves it readable for its owner only
    build_tokenizer().save_pretrained(output)
    write_recipe(output, losses, accuracy)
    print(json.dumps(accuracy, indent=2))


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description="Train the tiny base model and write it with its recipe.")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="folder to write")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = build_model(SEED, NUM_LAYERS, ROPE_BASE)
    losses = train(model, RECIPE, SEED, after_step=_log)
    save(model, arguments.output, losses)


if __name__ == "__main__":
    main()
