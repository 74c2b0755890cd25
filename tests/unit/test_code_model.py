"""The shipped base model of code is what its recipe says, and its lessons look as the environment does."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
from transformers import AutoTokenizer

from code_model import make
from code_model.lessons import CHANGES, listing, part, undoing
from code_model.tokenizer import build_tokenizer

RECIPE = json.loads((make.SHIPPED / "recipe.json").read_text())
NUM_SPECIALS_AND_BYTES = 262


def test_the_weights_and_the_sources_are_those_of_the_recipe() -> None:
    assert hashlib.sha256((make.SHIPPED / "model.safetensors").read_bytes()).hexdigest() == RECIPE["weights_sha256"]
    assert make.source_sha256() == RECIPE["source_sha256"], "the recipe was changed: run `make code-model`"


def test_lessons_are_the_same_for_a_seed_and_made_of_known_words() -> None:
    tokenizer = build_tokenizer()
    found = [undoing(np.random.default_rng(seed)) for seed in range(8)]
    assert found == [undoing(np.random.default_rng(seed)) for seed in range(8)]
    lessons = [lesson for lesson in found if lesson is not None]
    assert lessons
    for lesson in [*lessons, listing(np.random.default_rng(0))]:
        ids = tokenizer.encode(lesson.told + lesson.said)
        assert not [i for i in ids if 6 <= i < NUM_SPECIALS_AND_BYTES], "no word falls apart into bytes"
        assert tokenizer.decode(ids) == lesson.told + lesson.said


def test_what_is_to_be_said_was_listed_last() -> None:
    for seed in range(8):
        lesson = undoing(np.random.default_rng(seed)) or listing(np.random.default_rng(seed))
        change, _, line = lesson.said.removeprefix("<|assistant|> fix ").removesuffix("<|end|>").partition(" | ")
        listed = lesson.told.rpartition(" ; ")[2].removesuffix("<|end|>").split()
        assert change in CHANGES
        assert (change, line) in zip(listed[::2], listed[1::2], strict=True)


def test_a_lesson_of_several_functions_shows_different_ones() -> None:
    rng, several = np.random.default_rng(0), 0
    for _ in range(12):
        lesson = undoing(rng)
        code = lesson.told.partition(" ; ")[0] if lesson is not None else ""
        shown = [re.sub(r"\b(L\d+|run|skip)\b", "", text).split() for text in code.split(" i0 def ")[1:]]
        several += len(shown) > 1
        assert not [one for at, one in enumerate(shown) if one in shown[:at]]
    assert several


def test_held_out_lessons_are_of_other_files() -> None:
    of_training, held = (set(part(held)[0]) for held in (False, True))
    assert held
    assert not held & of_training


def test_the_shipped_tokenizer_is_the_recipe_s() -> None:
    shipped, built = AutoTokenizer.from_pretrained(make.SHIPPED), build_tokenizer()
    for text in ("<|user|> i0 def g0 ( v0 ) : L1 fails AssertionError ; not L1<|end|>", "na\u00efve  text"):
        assert shipped.encode(text) == built.encode(text)
        assert shipped.decode(shipped.encode(text)) == text


def test_the_model_is_small_enough_to_ship() -> None:
    assert (make.SHIPPED / "model.safetensors").stat().st_size < 5_000_000
