"""Weights and optimizer state as named tensors: what is exported, saved and restored. No pickle anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from turnwise.engine.weights import array_of


def named_weights(model: Any) -> dict[str, Tensor]:
    """Return the model's state by name, each storage once: of tied tensors the first name stays, as in safetensors."""
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    named: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() == 0 or place not in seen:
            named[name] = tensor
        seen.add(place)
    return named


def exported(model: Any, dtype: torch.dtype) -> dict[str, NDArray[np.generic]]:
    """Return copies of the weights as an engine of `dtype` holds them; bfloat16 as bits (`turnwise.engine.weights`).

    Casting happens here and not in the engine, or its checksum could not be that of what was published.
    """
    cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in named_weights(model).items()}
    return {name: np.array(array_of(tensor)) for name, tensor in cast.items()}


def restore_weights(model: Any, source: Any) -> None:
    """Copy `source`'s weights into `model` in place; ValueError if names or shapes differ."""
    ours, theirs = named_weights(model), named_weights(source)
    if {n: t.shape for n, t in ours.items()} != {n: t.shape for n, t in theirs.items()}:
        raise ValueError("the checkpoint is of another architecture than the learner's model")
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])


def save_optimizer(model: Any, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Write the state of every parameter as `<parameter>/<entry>`."""
    flat = {
        f"{name}/{entry}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }
    save_file(flat, path)


def load_optimizer(model: Any, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Replace the optimizer's state by what `save_optimizer` wrote."""
    flat = load_file(path)
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        prefix = f"{name}/"
        entries = {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}
        if entries:
            optimizer.state[parameter] = {key: value.clone().to(parameter.device) for key, value in entries.items()}
