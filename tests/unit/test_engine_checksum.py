"""A checksum tells any two states apart; loading proves what is held."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from turnwise.engine.checksum import checksum
from turnwise.engine.weights import arrays_of, checksum_of, load_arrays
from turnwise.errors import WeightProofError


def tied_model(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 3), "head": torch.nn.Linear(3, 5, bias=False)}).to(
        dtype
    )
    model["head"].weight = model["embed"].weight
    return model


def test_the_checksum_depends_on_names_dtypes_shapes_and_bytes_but_not_on_order() -> None:
    base = {"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 3), np.float32)}
    assert checksum(base) == checksum(dict(reversed(base.items())))
    others = [
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"], "b": base["b"].reshape(3, 2)},
        {"a": base["a"], "b": base["b"].astype(np.int32)},
        {"a": base["a"] + 1, "b": base["b"]},
        {"a": base["a"]},
    ]
    assert len({checksum(base), *map(checksum, others)}) == 6


def test_the_checksum_reads_any_memory_layout_and_scalars() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert checksum({"a": np.asfortranarray(array)}) == checksum({"a": array})
    assert checksum({"a": np.float32(1).reshape(())}) != checksum({"a": np.ones(1, np.float32)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_copies_in_place_and_keeps_ties(dtype: torch.dtype) -> None:
    model = tied_model(dtype)
    before = model["embed"].weight
    new = {"embed.weight": (before.detach().float() + 1).to(dtype)}
    state = (
        {"embed.weight": new["embed.weight"].view(torch.int16).numpy().view(np.uint16)}
        if dtype == torch.bfloat16
        else {"embed.weight": new["embed.weight"].numpy()}
    )
    state["embed.weight"].flags.writeable = False
    assert load_arrays(model, checksum(state), state) == checksum(state) == checksum_of(model, state)
    assert torch.equal(model["head"].weight, new["embed.weight"])
    assert model["embed"].weight is before
    assert checksum(arrays_of(model)) == checksum(state)


def test_tied_weights_may_come_under_all_their_names() -> None:
    model = tied_model()
    weight = np.ones((5, 3), np.float32)
    state = {"embed.weight": weight, "head.weight": weight}
    load_arrays(model, checksum(state), state)
    contradiction = {"embed.weight": weight, "head.weight": 2 * weight}
    with pytest.raises(WeightProofError, match="checksum"):
        load_arrays(model, checksum(contradiction), contradiction)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({}, "missing"),
        ({"embed.weight": np.ones((5, 3), np.float32), "new": np.ones(1)}, "unknown"),
        ({"embed.weight": np.ones((3, 5), np.float32)}, "published as"),
        ({"embed.weight": np.ones((5, 3), np.float64)}, "published as"),
    ],
)
def test_states_of_another_form_are_refused_untouched(state: dict[str, np.ndarray], problem: str) -> None:
    model = tied_model()
    before = model["embed"].weight.clone()
    with pytest.raises(WeightProofError, match=problem):
        load_arrays(model, checksum(state), state)
    assert torch.equal(model["embed"].weight, before)
