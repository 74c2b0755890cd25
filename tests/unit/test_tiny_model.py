"""The shipped base model is what its recipe says: same weights, same sources, same first steps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tiny_model import make
from tiny_model.tokenizer import build_tokenizer

SHIPPED = make.SHIPPED
RECIPE = json.loads((SHIPPED / "recipe.json").read_text())


def test_the_weights_are_those_of_the_recipe() -> None:
    assert hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest() == RECIPE["weights_sha256"]


def test_the_sources_are_those_that_made_the_weights() -> None:
    assert make.source_sha256() == RECIPE["source_sha256"], "the recipe was changed: run `make base-model`"
    assert sum(stage.steps for stage in make.RECIPE.stages) == RECIPE["steps"]


def test_the_first_steps_give_the_recorded_losses() -> None:
    assert make.replay_losses() == pytest.approx(RECIPE["first_losses"], abs=1e-3)


def test_it_copies_facts_reliably() -> None:
    accuracy = RECIPE["accuracy"]
    assert accuracy["follow"]["value"] >= 0.98  # a value read from an opened page, on worlds never seen
    assert accuracy["titles"]["title"] >= 0.98  # a title copied from a list of results


def test_the_tokenizer_is_the_recipe_s_and_loses_nothing() -> None:
    shipped, built = AutoTokenizer.from_pretrained(SHIPPED), build_tokenizer()
    texts = ["answer Oslo | Acme notes ; Vera archive", "state 14", 'naïve ☃ {"a": 1}\n\ttab', "  two  spaces "]
    for text in texts:
        ids = shipped.encode(text, add_special_tokens=False)
        assert ids == built.encode(text, add_special_tokens=False)
        assert shipped.decode(ids) == text


def test_the_model_is_small_enough_to_ship() -> None:
    assert (Path(SHIPPED) / "model.safetensors").stat().st_size < 5_000_000
