"""Guided and unguided attempts, kept apart: they succeed at different rates, so neither is a baseline of the other.

The one place where that is decided. `assign` has every fusion, estimator and scale see one kind at a time; `Selector`
has every selection do so. What the unguided attempts get is thus, to the bit, what they would get if nobody had been
guided: whether an episode is followed by a guided one depends on its own actions, and a baseline must not depend on
these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import Array, TurnAdvantages, TurnRewards
from turnwise.records import Group, Trajectory

Rows = NDArray[np.int64]


def unguided(group: Group) -> Group:
    """Return the group with its first attempts and their scores only: what says how well the policy does."""
    return _part(group, [member for member in group.trajectories if not member.is_guided])


def by_kind(group: Group) -> list[Group]:
    """Return the unguided part and the guided part of a group, those that have a member; `joined_groups` undoes it."""
    kinds = [[m for m in group.trajectories if m.is_guided is is_guided] for is_guided in (False, True)]
    if not all(kinds):
        return [group]
    return [_part(group, members) for members in kinds]


def joined_groups(parts: Sequence[Group]) -> Group | None:
    """Return the group of which these are parts, by index; None without any."""
    if len(parts) < 2:
        return parts[0] if parts else None
    members = sorted((m for part in parts for m in part.trajectories), key=lambda member: member.index)
    is_whole = all(part.trained is None for part in parts)
    trained = sorted(member.index for part in parts for member in part.trained_now)
    return replace(
        parts[0],
        trajectories=tuple(members),
        scores=tuple(score for part in parts for score in part.scores),
        trained=None if is_whole else tuple(trained),
        later=tuple(sorted(index for part in parts for index in part.later)),
    )


def rows_by_kind(trajectories: Sequence[Trajectory]) -> list[Rows]:
    """Return the rows of the unguided and of the guided trajectories; of a kind that there is none of, nothing."""
    is_guided = np.asarray([trajectory.is_guided for trajectory in trajectories], dtype=bool)
    return [rows for rows in (np.flatnonzero(~is_guided), np.flatnonzero(is_guided)) if len(rows)]


def rewards_of(rewards: TurnRewards, rows: Rows) -> TurnRewards:
    """Return the rewards of some trajectories, as narrow as their turns allow; all of them: the rewards as they are."""
    if len(rows) == len(rewards.group):
        return rewards
    width = max(1, int(rewards.num_turns[rows].max(initial=0)))
    found = {each.name: _rows_of(getattr(rewards, each.name), rows, width) for each in fields(rewards)}
    return TurnRewards(**{**found, "weights": rewards.weights, "update": rewards.update})


def joined(parts: Sequence[tuple[Rows, TurnAdvantages]], shape: tuple[int, int]) -> TurnAdvantages:
    """Return [N, K] advantages from those of the parts, each in its rows."""
    if len(parts) == 1:
        return parts[0][1]
    values, mask = np.zeros(shape), np.zeros(shape, dtype=bool)
    tokens: dict[int, Sequence[Array]] = {}
    for rows, part in parts:
        width = part.values.shape[1]
        values[rows, :width], mask[rows, :width] = part.values, part.mask
        tokens |= dict(zip(rows.tolist(), part.tokens or (), strict=False))
    return TurnAdvantages(values=values, mask=mask, tokens=[tokens[row] for row in sorted(tokens)] or None)


def _rows_of(value: Any, rows: Rows, width: int) -> Any:
    """Return some rows of an array, a list, or of each of a mapping's arrays."""
    if isinstance(value, np.ndarray):
        return value[rows] if value.ndim == 1 else value[rows, :width]
    if isinstance(value, dict):
        return {name: _rows_of(each, rows, width) for name, each in value.items()}
    return [value[row] for row in rows] if isinstance(value, Sequence) and len(value) else value


def _part(group: Group, members: Sequence[Trajectory]) -> Group:
    names, indices = {m.trajectory_id for m in members}, {m.index for m in members}
    return replace(
        group,
        trajectories=tuple(members),
        scores=tuple(score for score in group.scores if score.trajectory_id in names),
        trained=None if group.trained is None else tuple(index for index in group.trained if index in indices),
        later=tuple(index for index in group.later if index in indices),
    )
