"""`RewardHost`: one scorer, run in a thread with a time-out, whose mistakes become masked scores.

Reward actors own one. A caller always gets scores: where the scorer raised, ran out of time or returned something
malformed, every trajectory gets one masked score a channel with the failure, never zero and never an exception.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from turnwise.errors import JudgeError, failure_of
from turnwise.records import Failure, FailureKind, Group, Score
from turnwise.reward import Scorer
from turnwise.rollout.threads import CallThread, LostThreads

DEFAULT_CHANNEL = "outcome"
"""The channel that is masked when a scorer without channels of its own fails, beside those that the group emitted."""


class RewardHost:
    """Scores one group after another; a scorer is not asked two things at once unless one of them ran out of time."""

    def __init__(self, name: str, scorer: Scorer, timeout_s: float) -> None:
        """`timeout_s` limits the scoring of one group, not the waiting for its turn."""
        self.name, self._scorer, self._timeout_s = name, scorer, timeout_s
        self._lost = LostThreads()
        self._thread: CallThread | None = None
        self._is_free = asyncio.Lock()
        self._failures: Counter[str] = Counter()
        self._num_groups = self._num_scores = self._num_masked = 0
        self._seconds = self._longest_s = 0.0

    async def score(self, group: Group) -> tuple[Score, ...]:
        """Return the scores of a group; masked ones where the scorer failed."""
        async with self._is_free:
            started = time.perf_counter()
            try:
                scores = await self._scored(group)
            except Exception as error:  # noqa: BLE001 - the border where a scorer's error becomes its record
                scores = self._masked(group, failure_of(error, "score", FailureKind.JUDGE))
            self._count(scores, time.perf_counter() - started)
            return scores

    def status(self) -> dict[str, Any]:
        """Return counts and latencies as plain JSON."""
        return {
            "name": self.name,
            "version": self._scorer.version,
            "groups": self._num_groups,
            "scores": self._num_scores,
            "masked_fraction": self._num_masked / max(1, self._num_scores),
            "latency_mean_s": self._seconds / max(1, self._num_groups),
            "latency_max_s": self._longest_s,
            "failures": dict(self._failures),
            "lost_threads": self._lost.now,
        }

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.close()

    async def _scored(self, group: Group) -> tuple[Score, ...]:
        if self._thread is None or self._thread.is_over:
            self._thread = CallThread(f"{self.name}:scorer", self._lost)
        returned = await self._thread.call(lambda: self._call(group), self._timeout_s)
        _check(returned, group, self._scorer.channels)
        return tuple(score if score.source else replace(score, source=self.name) for score in returned)

    def _call(self, group: Group) -> tuple[Score, ...]:
        """Score in the thread; a generator is run to its end there."""
        return tuple(self._scorer.score(group))

    def _masked(self, group: Group, failure: Failure) -> tuple[Score, ...]:
        """Return one masked score for each trajectory and channel."""
        self._failures[failure.label] += 1
        emitted = {channel for trajectory in group.trajectories for channel in trajectory.events_by_channel}
        channels = self._scorer.channels or tuple(sorted(emitted | {DEFAULT_CHANNEL}))
        return tuple(
            Score(
                trajectory_id=trajectory.trajectory_id,
                channel=channel,
                value=None,
                source=self.name,
                source_version=self._scorer.version,
                failure=failure,
            )
            for trajectory in group.trajectories
            for channel in channels
        )

    def _count(self, scores: Sequence[Score], seconds: float) -> None:
        self._num_groups += 1
        self._num_scores += len(scores)
        self._num_masked += sum(score.is_masked for score in scores)
        self._seconds += seconds
        self._longest_s = max(self._longest_s, seconds)


def _check(scores: Sequence[Any], group: Group, channels: Sequence[str]) -> None:
    """JudgeError for a result that could be mistaken for a judgement of this group."""
    num_turns = {trajectory.trajectory_id: len(trajectory.turns) for trajectory in group.trajectories}
    seen = set()
    for score in scores:
        if not isinstance(score, Score):
            raise JudgeError(f"returned a {type(score).__name__} instead of a Score")
        _check_one(score, num_turns, channels)
        place = (score.trajectory_id, score.channel, score.turn, score.span)
        if place in seen:
            raise JudgeError(f"two scores for one place: {place}")
        seen.add(place)


def _check_one(score: Score, num_turns: dict[str, int], channels: Sequence[str]) -> None:
    if score.trajectory_id not in num_turns:
        raise JudgeError(f"a score for the unknown trajectory {score.trajectory_id}")
    if channels and score.channel not in channels:
        raise JudgeError(f"a score on channel {score.channel}, the scorer declares {', '.join(channels)}")
    if score.turn is not None and not 0 <= score.turn < num_turns[score.trajectory_id]:
        raise JudgeError(f"a score for turn {score.turn} of {num_turns[score.trajectory_id]}")
    if score.value is not None and not (isinstance(score.value, int | float) and math.isfinite(score.value)):
        raise JudgeError(f"the value {score.value!r} of channel {score.channel} is not a finite number")
