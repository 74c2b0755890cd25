"""The embedded engine `hf`: stock transformers models with continuous or lock-step batching over a slot KV cache.

Built by the engine actor, by `LocalEngineClient` users and tests. It does not shard a model: one device, one copy.
Torch is loaded with the model, so that who only checks the options does not wait for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from turnwise.config.schema import key
from turnwise.engine.batching import ContinuousBatching, LockStepBatching
from turnwise.engine.loop import SteppedEngine
from turnwise.errors import UserError

DTYPES = ("float32", "bfloat16", "float16")

MODES = ("auto", "lockstep", "continuous")


@dataclass
class HfConfig:
    """Options of the engine `hf`."""

    slots: int = key(128, "sequences that run at once; idle slots keep their key-value caches", at_least=1)
    max_context: int = key(
        1024, "tokens that a slot holds, context and action; the model's own limit if that is less", at_least=2
    )
    threads: int = key(1, "CPU threads", at_least=1)
    batching: str = key(
        "auto",
        "`auto` (lock-step if `rollout.max_staleness` is 0), `lockstep` or `continuous`",
        one_of=("auto", "lockstep", "continuous"),
    )
    gather_s: float = key(
        0.5,
        "lock-step: seconds without any arrival after which a batch begins incomplete",
        only_if=("batching", ("auto", "lockstep")),
        at_least=0,
    )
    device: str = key("auto", "`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ...")


class HfEngine(SteppedEngine):
    """Samples with the model in a folder in Hugging Face format."""

    Config: ClassVar[type[HfConfig]] = HfConfig

    def __init__(
        self, config: HfConfig, model_path: str | Path, *, dtype: str = "float32", lockstep: bool = False
    ) -> None:
        """Load the model; UserError for options, folders or models that cannot be served."""
        _check(config, dtype)
        from turnwise.engine.decoder import context_limit
        from turnwise.engine.stepper import SlotStepper

        path = Path(model_path)
        model = _load(path, dtype, config.device)
        stepper = SlotStepper(
            model,
            num_slots=config.slots,
            max_context=context_limit(model.config, config.max_context),
            threads=config.threads,
            eos_ids=eos_ids_of(model, path),
        )
        super().__init__(stepper, LockStepBatching(config.gather_s) if lockstep else ContinuousBatching())


def eos_ids_of(model: Any, path: Path) -> list[int]:
    """Return every id that ends an action: of the generation config, the model's config and the tokenizer's."""
    found: set[int] = set()
    for source in (model.generation_config, model.config.get_text_config()):
        value = getattr(source, "eos_token_id", None)
        found.update([value] if isinstance(value, int) else value or [])
    return sorted(found | _tokenizer_eos(path))


def _tokenizer_eos(path: Path) -> set[int]:
    """Read the end token's id from `tokenizer_config.json`, without loading a tokenizer."""
    file = path / "tokenizer_config.json"
    if not file.is_file():
        return set()
    config = json.loads(file.read_text(encoding="utf-8"))
    token = config.get("eos_token")
    text = token.get("content") if isinstance(token, dict) else token
    added = config.get("added_tokens_decoder", {})
    return {int(index) for index, entry in added.items() if text is not None and entry.get("content") == text}


def _check(config: HfConfig, dtype: str) -> None:
    if dtype not in DTYPES:
        raise UserError("model.dtype", dtype, "no such dtype", f"one of: {', '.join(DTYPES)}")
    if config.batching not in MODES:
        raise UserError("engine.batching", config.batching, "no such batching", f"one of: {', '.join(MODES)}")
    for name in ("slots", "max_context", "threads"):
        if getattr(config, name) < 1:
            raise UserError(f"engine.{name}", getattr(config, name), "too small", "give at least 1")
    if config.gather_s < 0:
        raise UserError("engine.gather_s", config.gather_s, "negative", "give seconds from 0 on")


def _load(path: Path, dtype: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    if not (path / "config.json").is_file():
        raise UserError("model.path", path, "no model there (no config.json)", "give a folder in Hugging Face format")
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    options = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa", "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(path, **options)
    return model.to(place).eval().requires_grad_(False)
