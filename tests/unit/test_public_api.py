"""The public door: `turnwise.__all__` is what is there, and sorted."""

from __future__ import annotations

import types

import turnwise


def test_all_is_sorted_and_is_what_is_there() -> None:
    is_public = {
        name
        for name, item in vars(turnwise).items()
        if not name.startswith("_") and not isinstance(item, types.ModuleType)
    }
    assert turnwise.__all__ == sorted(is_public)
