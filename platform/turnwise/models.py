"""From what the user calls a model to its folder."""

from __future__ import annotations

from pathlib import Path

from turnwise.errors import UserError
from turnwise.registry import lookup, names, suggestion


def resolve_model(path: str | Path) -> Path:
    """Return the folder of `model.path`: a registered model's, or the path itself; UserError if it is neither."""
    if str(path) in names("model"):
        return Path(lookup("model", str(path)))
    if not Path(path).is_dir():
        remedy = f"give a folder in Hugging Face format, or {suggestion(str(path), names('model'))}"
        raise UserError("model.path", path, "no such folder or registered model", remedy)
    return Path(path)
