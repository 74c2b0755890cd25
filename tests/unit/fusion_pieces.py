"""Rewards of several channels in a few lines, and fusions by name."""

import dataclasses

import numpy as np

from turnwise import registry
from turnwise.config.plugins import build_plugin, named_channels
from turnwise.credit import TurnRewards

OPTIONS = {
    "gate": {"levels": [["format", "tool"], ["outcome"]]},
    "constrain": {"constraints": {"grounded": 0.5, "safe": 0.2}},
    "preference": {"references": ["one", "two"]},
    "ensemble": {"channels": ["one", "two", "three"], "how": "mean_std"},
    "decorrelate": {"channels": ["one", "two", "three"]},
}
"""Options that make a fusion complete whose defaults are not."""

FUSIONS = registry.names("fuse")


def fusion(name, **options):
    found, config = build_plugin("fuse", {"name": name, **OPTIONS.get(name, {}), **options})
    return found(config)


def channels_named_by(built):
    return sorted({*named_channels(built, "channel_options"), *named_channels(built, "made_options")})


def of_channels(groups, num_turns, *, num_tokens=2, width=None, update=0, **channels):
    """Return rewards; a channel is (turn scores by row or None, outcomes or None), with None for what is masked."""
    width = width or max([1, *num_turns])
    exists = np.arange(width)[None, :] < np.asarray(num_turns)[:, None]
    empty = TurnRewards(
        group=list(groups),
        num_turns=np.asarray(num_turns, dtype=np.int64),
        num_tokens=np.where(exists, num_tokens, 0).astype(np.int64),
        turn={},
        turn_mask={},
        outcome={},
        outcome_mask={},
        weights=dict.fromkeys(channels, 1.0),
        update=update,
        trajectory_ids=[f"{name}/{list(groups)[:i].count(name)}" for i, name in enumerate(groups)],
    )
    for name, (turns, outcomes) in channels.items():
        rows = turns if turns is not None else [[0.0] * count for count in num_turns]
        wholes = outcomes if outcomes is not None else [0.0] * len(num_turns)
        values, mask = np.zeros((len(rows), width)), exists.copy()
        for i, row in enumerate(rows):
            values[i, : len(row)] = [score or 0.0 for score in row]
            mask[i, : len(row)] &= np.asarray([score is not None for score in row], dtype=bool)
        empty = dataclasses.replace(
            empty,
            turn={**empty.turn, name: values},
            turn_mask={**empty.turn_mask, name: mask},
            outcome={**empty.outcome, name: np.asarray([score or 0.0 for score in wholes])},
            outcome_mask={**empty.outcome_mask, name: np.asarray([score is not None for score in wholes])},
        )
    return empty
