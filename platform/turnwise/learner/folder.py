"""The learner's folders: a model in Hugging Face format, its tokenizer, and `learner.json` of a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from turnwise.errors import UserError
from turnwise.records import SCHEMA_VERSION

PROGRESS_FILE = "learner.json"

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
"""Copied byte for byte into every checkpoint: a tokenizer that is loaded and saved again may come out different."""


def load_model(path: Path) -> Any:
    """Return the model in float32 and evaluation mode; UserError for a folder that holds none."""
    transformers_logging.disable_progress_bar()  # a bar of milliseconds in every log
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "model.path", path, f"cannot be loaded ({reason})", "give a folder in Hugging Face format"
        ) from error
    return model.eval()


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files that `source` has."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def write_progress(folder: Path, progress: dict[str, Any]) -> None:
    """Write what `read_progress` returns."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **progress}, indent=2)
    (folder / PROGRESS_FILE).write_text(text + "\n", encoding="utf-8")


def read_progress(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's progress; UserError if it is missing, broken or of another version."""
    try:
        progress: dict[str, Any] = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            "checkpoint", folder, f"{PROGRESS_FILE} cannot be read ({error})", "give a complete checkpoint"
        ) from error
    if progress.get("schema_version") != SCHEMA_VERSION:
        remedy = "resume with the Turnwise that wrote it"
        raise UserError(
            "checkpoint", folder, f"schema_version {progress.get('schema_version')} is not {SCHEMA_VERSION}", remedy
        )
    return progress
