"""From what the user calls a model to its folder, and from a folder to its tokenizer; and how models are loaded."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnwise.errors import UserError
from turnwise.registry import lookup, names, suggestion

_CONFIGURATIONS = ("config.json", "tokenizer_config.json")


def resolve_model(path: str | Path) -> Path:
    """Return the folder of `model.path`: a registered model's, or the path itself; UserError if it is neither."""
    if str(path) in names("model"):
        return Path(lookup("model", str(path)))
    if not Path(path).is_dir():
        remedy = f"give a folder in Hugging Face format, or {suggestion(str(path), names('model'))}"
        raise UserError("model.path", path, "no such folder or registered model", remedy)
    return Path(path)


def tokenizer_of(folder: str | Path, **options: Any) -> Any:
    """Return the tokenizer of a model's folder, which transformers' `AutoTokenizer` chooses; OSError, ValueError.

    What it chooses for the shipped models is known. Only to ask it costs an import of torch, which is seconds, and
    hundreds of megabytes in every worker.
    """
    import transformers

    kind = transformers.TokenizersBackend if _has_plain_tokenizer(Path(folder)) else transformers.AutoTokenizer
    return kind.from_pretrained(folder, local_files_only=True, **options)


@contextmanager
def loading() -> Iterator[None]:
    """Let Python not look for garbage while torch and a model are loaded: a quarter less time, for all of it stays."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _has_plain_tokenizer(folder: Path) -> bool:
    """Whether a Qwen3 model (of some other kinds `AutoTokenizer` knows better) has a tokenizer of the general class."""
    try:
        model, tokenizer = (json.loads((folder / name).read_text(encoding="utf-8")) for name in _CONFIGURATIONS)
        known = (model["model_type"], tokenizer["tokenizer_class"]) == ("qwen3", "TokenizersBackend")
        return known and "auto_map" not in tokenizer
    except (OSError, ValueError, KeyError, TypeError):
        return False
