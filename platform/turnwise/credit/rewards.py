"""From scores to `TurnRewards`: which score is a turn's, which the whole trajectory's, which is missing and which is 0.

Called by `assign`. The rules:

- Scores of one channel and place add up (spans of a turn, two scorers of one channel); one masked among them masks all.
- A masked score of channel "*" masks every channel of its trajectory: its scorer failed as a whole.
- A masked score of a whole trajectory masks its turns that have no score of their own: who would have given it failed.
- A turn without a score on a channel got nothing there: 0. So did a whole trajectory on a channel of turn scores only.
- A channel that judges whole trajectories anywhere in the batch owes each of them a score: one that has none, neither
  for the whole nor for a turn, is missing. A masked score is no judgement: it says nothing of other trajectories.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from turnwise.credit import TurnRewards
from turnwise.errors import JudgeError, UserError
from turnwise.records import Group, Score, Trajectory
from turnwise.registry import suggestion

ANY_CHANNEL = "*"
"""Channel of a masked score whose scorer failed as a whole."""


def turn_rewards(groups: Sequence[Group], weights: Mapping[str, float], declared: Collection[str] = ()) -> TurnRewards:
    """Return the rewards of all trajectories, in the order of `groups` and of their trajectories.

    `declared` are channels known to exist: their absence from the batch means 0, not a mistake. UserError for a
    weighted channel that is neither scored in any group nor declared; JudgeError for a score that is not finite, is
    given twice, or belongs to no trajectory or turn of its group; ValueError for a trajectory given twice.
    """
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    _check_once(trajectories)
    scores = [_checked(score, turns) for group in groups for score, turns in _with_turns(group)]
    _check_repeats(scores)
    _check_channels(weights, {score.channel for score in scores}, declared)
    num_tokens = _token_counts(trajectories)
    num_turns = np.asarray([len(trajectory.turns) for trajectory in trajectories], dtype=np.int64)
    exists = np.arange(num_tokens.shape[1])[None, :] < num_turns[:, None]
    table = {channel: _Channel(*exists.shape) for channel in weights}
    rows = {trajectory.trajectory_id: row for row, trajectory in enumerate(trajectories)}
    for score in scores:
        for channel in weights if score.channel == ANY_CHANNEL else {score.channel} & weights.keys():
            table[channel].add(rows[score.trajectory_id], score)
    return TurnRewards(
        group=[group.group_id for group in groups for _ in group.trajectories],
        num_turns=num_turns,
        num_tokens=num_tokens,
        turn={name: channel.turn for name, channel in table.items()},
        turn_mask={name: channel.turn_mask() & exists for name, channel in table.items()},
        outcome={name: channel.whole for name, channel in table.items()},
        outcome_mask={name: channel.outcome_mask() for name, channel in table.items()},
        weights=dict(weights),
        state_keys=[[turn.state_key for turn in trajectory.turns] for trajectory in trajectories],
        belief_keys=[[turn.belief_key for turn in trajectory.turns] for trajectory in trajectories],
        turn_scored={name: channel.turn_scored for name, channel in table.items()},
        trajectory_ids=[trajectory.trajectory_id for trajectory in trajectories],
    )


class _Channel:
    """One channel's scores while they are collected; values are 0 where masked."""

    def __init__(self, num_trajectories: int, width: int) -> None:
        self.turn = np.zeros((num_trajectories, width))
        self.turn_known = np.ones((num_trajectories, width), dtype=bool)
        self.turn_scored = np.zeros((num_trajectories, width), dtype=bool)
        self.whole = np.zeros(num_trajectories)
        self.whole_known = np.ones(num_trajectories, dtype=bool)
        self.is_scored = np.zeros(num_trajectories, dtype=bool)
        self.judges_wholes = False

    def add(self, row: int, score: Score) -> None:
        self.is_scored[row] = True
        self.judges_wholes |= score.turn is None and not score.is_masked
        values, known = (self.whole, self.whole_known) if score.turn is None else (self.turn[row], self.turn_known[row])
        place = row if score.turn is None else score.turn
        if score.turn is not None:
            self.turn_scored[row, score.turn] = True
        known[place] &= score.value is not None
        values[place] = values[place] + (score.value or 0.0) if known[place] else 0.0

    def turn_mask(self) -> np.ndarray:
        return self.turn_known & (self.turn_scored | self.whole_known[:, None])

    def outcome_mask(self) -> np.ndarray:
        return self.whole_known & (self.is_scored | (not self.judges_wholes))


def _token_counts(trajectories: Sequence[Trajectory]) -> NDArray[np.int64]:
    """Return [N, K] the action tokens of each turn; K is at least 1."""
    counts = [[len(turn.action_ids) for turn in trajectory.turns] for trajectory in trajectories]
    found = np.zeros((len(counts), max([1, *map(len, counts)])), dtype=np.int64)
    for row, of_turns in enumerate(counts):
        found[row, : len(of_turns)] = of_turns
    return found


def _with_turns(group: Group) -> list[tuple[Score, int]]:
    turns = {trajectory.trajectory_id: len(trajectory.turns) for trajectory in group.trajectories}
    return [(score, turns.get(score.trajectory_id, -1)) for score in group.scores]


def _checked(score: Score, num_turns: int) -> Score:
    if num_turns < 0:
        raise JudgeError(f"{_place(score)}: its group has no such trajectory")
    if score.turn is not None and not 0 <= score.turn < num_turns:
        raise JudgeError(f"{_place(score)}: the trajectory has {num_turns} turns")
    if score.value is not None and not math.isfinite(score.value):
        raise JudgeError(f"{_place(score)}: the value is {score.value}")
    if score.channel == ANY_CHANNEL and not score.is_masked:
        raise JudgeError(f"{_place(score)}: it stands for every channel, and can only be masked")
    return score


def _check_once(trajectories: Sequence[Trajectory]) -> None:
    """Refuse duplicates: they would count twice in every statistic, and one of them would have no scores."""
    seen = Counter(trajectory.trajectory_id for trajectory in trajectories)
    repeated = next((name for name, times in seen.items() if times > 1), None)
    if repeated is not None:
        raise ValueError(f"trajectory {repeated} is in the batch {seen[repeated]} times")


def _check_repeats(scores: Sequence[Score]) -> None:
    seen = Counter((s.trajectory_id, s.turn, s.span, s.channel, s.source) for s in scores)
    repeated = next((s for s in scores if seen[s.trajectory_id, s.turn, s.span, s.channel, s.source] > 1), None)
    if repeated is not None:
        raise JudgeError(f"{_place(repeated)}: given twice")


def _place(score: Score) -> str:
    where = "whole trajectory" if score.turn is None else f"turn {score.turn}"
    source = score.source or "unnamed scorer"
    return f"score of {source} on channel {score.channel!r}, trajectory {score.trajectory_id}, {where}"


def _check_channels(weights: Mapping[str, float], given: Collection[str], declared: Collection[str]) -> None:
    for channel in weights:
        if channel not in given and channel not in declared and ANY_CHANNEL not in given:
            known = sorted({*given, *declared})
            remedy = suggestion(channel, known) if known else "configure a scorer that gives it (rewards)"
            raise UserError("credit.channels", channel, "no scorer gave this channel in any group", remedy)


def ordered(groups: Sequence[Group]) -> list[Group]:
    """Return the groups by id, each with its trajectories by index."""
    return [_ordered(group) for group in sorted(groups, key=lambda group: group.group_id)]


def _ordered(group: Group) -> Group:
    trajectories: list[Trajectory] = sorted(group.trajectories, key=lambda trajectory: trajectory.index)
    return replace(group, trajectories=tuple(trajectories))
