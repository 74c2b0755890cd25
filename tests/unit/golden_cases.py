"""The worked cases of tests/assets/goldens.json, and which of them a test covers.

A test says `@covers("grpo")`; tests/unit/test_goldens.py fails while a case of the file is covered by none.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from credit_pieces import rewards

GOLDENS = json.loads((Path(__file__).parents[1] / "assets" / "goldens.json").read_text())
CASES = {case["id"]: case for case in GOLDENS["cases"]}
BATCH = GOLDENS["batch"]
CLOSE = {"rtol": 0.0, "atol": GOLDENS["tolerance"]["float64"]}
CLOSE_FLOAT32 = {"rtol": 0.0, "atol": GOLDENS["tolerance"]["float32"]}
MASK = np.asarray(BATCH["concat_mask"], dtype=bool)
COVERED = set()


def covers(*names):
    """Mark a test as the one that checks these cases; KeyError for a name that the file does not have."""
    for name in names:
        CASES[name]
    COVERED.update(names)
    return pytest.mark.golden


def inputs(name):
    return CASES[name]["inputs"]


def expected(name):
    return CASES[name]["expected"]


def of_batch(*, turns, outcomes, **changes):
    """Return the shared batch as rewards of one channel "x": its turn rewards, its outcomes, or both."""
    zeros = [[0.0] * len(row) for row in BATCH["turn_reward"]]
    return rewards(
        BATCH["group"],
        BATCH["turn_reward"] if turns else zeros,
        BATCH["outcome"] if outcomes else [0.0] * len(BATCH["outcome"]),
        **changes,
    )


def assert_turns(values, wanted):
    """Compare padded [N, K] values with ragged ones."""
    for row, expected_row in zip(values, wanted, strict=True):
        np.testing.assert_allclose(row[: len(expected_row)], expected_row, **CLOSE)
