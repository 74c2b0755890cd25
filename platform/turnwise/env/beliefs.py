"""Beliefs that an action states: one JSON object between `<belief>` and `</belief>`, beside what is to be carried out.

The scorer `belief`, and environments with a tracker of beliefs, read them here (ReBel; algorithms.md 4.6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

OPEN, CLOSE = "<belief>", "</belief>"


def split_belief(action: str) -> tuple[dict[str, Any] | None, str]:
    """Return the one belief that an action states and the rest of it; None for none, several, or no JSON object.

    Without a belief, or with several, the rest is all of it.
    """
    before, _, inside = action.partition(OPEN)
    inside, closing, after = inside.partition(CLOSE)
    if not closing or OPEN in after:
        return None, action
    try:
        belief = json.loads(inside)
    except (ValueError, RecursionError):
        belief = None
    return belief if isinstance(belief, dict) else None, f"{before} {after}".strip()


def belief_texts(value: Any) -> list[str]:
    """Return a belief's part as texts: one, a list, or an object whose entries are one each."""
    if isinstance(value, Mapping):
        return [f"{name} {item}" for name, item in value.items()]
    if isinstance(value, list):
        return [str(item) for item in value]
    return [] if value is None else [str(value)]
