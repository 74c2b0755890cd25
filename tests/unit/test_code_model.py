"""The shipped code model is what its recipe says, and finds bugs in functions that it has not read."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from transformers import AutoTokenizer, Qwen3ForCausalLM

from code_model import lessons, make
from code_model.words import build_tokenizer

SHIPPED = make.SHIPPED
RECIPE = json.loads((SHIPPED / "recipe.json").read_text())


def test_the_weights_are_those_of_the_recipe() -> None:
    assert hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest() == RECIPE["weights_sha256"]
    assert (SHIPPED / "model.safetensors").stat().st_size < 5_000_000


def test_the_tokenizer_is_the_recipe_s_and_loses_nothing() -> None:
    shipped, built = AutoTokenizer.from_pretrained(SHIPPED), build_tokenizer()
    for text in [
        "i1 if v0 <= v1 and not v2 : run 3",
        " fix 3 | is_not | 2",
        'naïve ☃ {"a": 1}\n\ttab',
        "  two  spaces ",
    ]:
        ids = shipped.encode(text, add_special_tokens=False)
        assert ids == built.encode(text, add_special_tokens=False)
        assert shipped.decode(ids) == text
    assert len(shipped.encode(" fix 132", add_special_tokens=False)) == 2


def test_lessons_end_with_the_edit_that_undoes_the_bug() -> None:
    found = lessons.sources(most=60)
    drawn = list(lessons.lessons(found, 20, seed=1, num_functions=6))
    assert drawn == list(lessons.lessons(found, 20, seed=1, num_functions=6))
    assert max(lesson.pieces[0][0].count(" def g0 (") for lesson in drawn) > 2
    for lesson in drawn:
        weights = [weight for text, weight in lesson.pieces if text.startswith(" fix ")]
        assert weights[-1] == 1.0
        assert set(weights[:-1]) <= {lessons.WRONG_WEIGHT}
        numbers = [text for text, weight in lesson.pieces if weight]
        assert len(set(numbers)) == len(numbers)


def test_it_names_the_right_edit_of_functions_that_it_has_not_read() -> None:
    """Chance is one in 50 or so; the recipe's figures are over 1,000 lessons each."""
    assert RECIPE["held_out_accuracy"]["1 functions at most"] > 0.15
    files = [file for i, file in enumerate(lessons.sources(most=1500)) if i % make.HELD_OUT == 0]
    tokenizer = build_tokenizer()
    rows = [make.encode(lesson, tokenizer) for lesson in lessons.lessons(files, 100, seed=3, num_functions=6)]
    model = Qwen3ForCausalLM.from_pretrained(SHIPPED).eval()
    assert make.measure(model, rows) > 0.08
    assert make.measure(make.build_model(), rows[:50]) < 0.05


def test_training_lowers_the_loss_of_a_new_model() -> None:
    tokenizer, stage = build_tokenizer(), make.Stage(num_lessons=96, num_functions=1, epochs=4, peak_lr=2.5e-3)
    found = lessons.lessons(lessons.sources(most=60), stage.num_lessons, seed=5, num_functions=1)
    rows = [make.encode(lesson, tokenizer) for lesson in found]
    losses = make.train(make.build_model(), rows, stage, seed=0)
    assert len(losses) == 4 * 3
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5
