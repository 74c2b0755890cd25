"""A torch model's weights as numpy arrays, out and in: what learners publish and engines load.

bfloat16, which numpy lacks, travels as its bits in uint16. Arrays are published in the dtype that the engine holds, or
the proof fails: a checksum over rounded weights is not a checksum of the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from turnwise.engine.checksum import checksum
from turnwise.errors import WeightProofError

Arrays = dict[str, NDArray[np.generic]]


def arrays_of(model: torch.nn.Module) -> Arrays:
    """Return every weight and persistent buffer once, tied ones under their first name; may share memory."""
    tensors = _tensors_of(model)
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(_identity(tensor), name)
    return {name: array_of(tensors[name]) for name in first.values()}


def array_of(tensor: torch.Tensor) -> NDArray[np.generic]:
    """Return a tensor as an array; bfloat16 as uint16 bits. Shares memory where it can."""
    held = tensor.detach().cpu().contiguous()
    if held.dtype == torch.bfloat16:
        return held.view(torch.int16).numpy().view(np.uint16)
    array: NDArray[np.generic] = held.numpy()
    return array


def load_arrays(model: torch.nn.Module, expected: str, state: Mapping[str, NDArray[np.generic]]) -> str:
    """Copy `state` into the model in place and return the checksum of what the model then holds.

    WeightProofError if names, shapes or dtypes differ (the model is then untouched), or the checksum is not `expected`.
    Tied weights may come under one name or under all of theirs.
    """
    tensors = _tensors_of(model)
    _check_names(tensors, state)
    for name, array in state.items():
        _check_form(name, array_of(tensors[name]), array)
    with torch.no_grad():
        for name, array in state.items():
            tensors[name].copy_(_tensor(array, tensors[name].dtype))
    held = checksum_of(model, state)
    if held != expected:
        raise WeightProofError(f"the engine holds weights with checksum {held}, published was {expected}")
    return held


def checksum_of(model: torch.nn.Module, names: Iterable[str]) -> str:
    """Return the checksum of the tensors that the model holds under `names`."""
    tensors = _tensors_of(model)
    return checksum({name: array_of(tensors[name]) for name in names})


def _tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    # keep_vars: the parameters themselves, so that tied ones can be told by identity
    return dict(model.state_dict(keep_vars=True))


def _identity(tensor: torch.Tensor) -> int:
    return tensor.data_ptr() or id(tensor)


def _check_names(tensors: Mapping[str, torch.Tensor], state: Mapping[str, object]) -> None:
    unknown = sorted(set(state) - set(tensors))
    covered = {_identity(tensors[name]) for name in state if name in tensors}
    missing = sorted(name for name, tensor in tensors.items() if _identity(tensor) not in covered)
    if unknown or missing:
        differs = f"unknown {unknown[:3]}, missing {missing[:3]}"
        raise WeightProofError(f"published names differ from the engine's: {differs}")


def _check_form(name: str, held: NDArray[np.generic], array: NDArray[np.generic]) -> None:
    if (held.dtype, held.shape) != (array.dtype, array.shape):
        published = f"{array.dtype}{list(array.shape)}"
        raise WeightProofError(f"{name} was published as {published}, the engine holds {held.dtype}{list(held.shape)}")


def _tensor(array: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
    owned = np.array(array)  # arrays from Ray's object store are read-only, which torch warns about
    if dtype == torch.bfloat16:
        return torch.from_numpy(owned.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(owned)
