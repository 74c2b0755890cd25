"""Tokenizers are those that transformers would choose, and cost no import of torch where that is known."""

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from turnwise.models import loading, resolve_model, tokenizer_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.yaml"


def copied(folder: Path, file: str, **changes: Any) -> Path:
    """Return a folder like the model `tiny`, but for some values in a JSON file."""
    shutil.copytree(resolve_model("tiny"), folder)
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **changes}))
    return folder


@pytest.mark.parametrize("name", ["tiny", "tiny_code"])
def test_the_shipped_models_have_the_tokenizer_that_transformers_would_choose(name: str) -> None:
    folder = resolve_model(name)
    ours, theirs = tokenizer_of(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert type(ours) is type(theirs)
    assert repr(vars(ours)) == repr(vars(theirs))
    text = "<|user|>What is the founder of Acme?<|end|>\n    return 1"
    assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize(
    ("file", "changes"),
    [("config.json", {"model_type": "qwen2"}), ("tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"})],
)
def test_of_other_models_transformers_chooses(file: str, changes: dict[str, str], tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", file, **changes)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert type(theirs) is not type(tokenizer_of(resolve_model("tiny")))
    assert type(tokenizer_of(folder)) is type(theirs)


def test_nothing_looks_for_garbage_while_a_model_is_loaded_and_all_do_after_an_error() -> None:
    def fail() -> None:
        with loading():
            assert not gc.isenabled()
            raise OSError

    with pytest.raises(OSError):
        fail()
    assert gc.isenabled()


def test_neither_the_driver_of_a_training_nor_a_rollout_worker_loads_torch() -> None:
    code = (
        "import sys, turnwise.train; from turnwise.config import load_config; from turnwise.preflight import check\n"
        "from turnwise.rollout.actor import load_agent; from turnwise.models import resolve_model\n"
        f"check(load_config({str(EXAMPLE)!r}, ['name=new', 'ray.dashboard=false']))\n"
        "load_agent({'name': 'chat'}, str(resolve_model('tiny')))\n"
        "print('transformers' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True", "False"]
