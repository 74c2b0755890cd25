"""No worked case of tests/assets/goldens.json is left without a test."""

import importlib
from pathlib import Path

from golden_cases import CASES, COVERED


def test_every_worked_case_is_covered_by_a_test():
    for path in sorted(Path(__file__).parent.glob("test_goldens_*.py")):
        if path != Path(__file__):
            importlib.import_module(path.stem)
    importlib.import_module("test_goldens")
    assert sorted(set(CASES) - COVERED) == []
    assert len(CASES) == 92
