"""The one loop: take scored groups, turn scores into credit, update the policy, give the new weights to the engines.

This is the only place that knows the whole line. It runs on the driver as plain async Python and holds no tensors: batches
are numpy arrays, weights go from the learner to the engines by reference.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from turnwise.config.schema import RunConfig
from turnwise.credit.assign import assign
from turnwise.monitor.metrics import MetricsLog
from turnwise.monitor.timing import StageClock
from turnwise.records import Batch, Failure, Group
from turnwise.stream import GroupStream


class Learner(Protocol):
    """The learner as the controller sees it."""

    async def update(self, batch: Batch, key: int) -> dict[str, float]:
        """Return the metrics of one update; doing it twice under one key does it once."""


class Weights(Protocol):
    """Whoever brings the learner's weights to the engines."""

    async def publish(self) -> int:
        """Return the version that every engine has proven to hold."""


class Keeper(Protocol):
    """Whoever stores groups, checkpoints and looks after held-out tasks between updates."""

    async def keep(self, update: int, groups: Sequence[Group]) -> None:
        """Store the groups that an update was made from."""

    async def after_update(self, update: int) -> dict[str, float]:
        """Checkpoint and evaluate when it is time; return metrics."""


@dataclass(slots=True)
class Progress:
    """What the controller counts; part of a checkpoint."""

    update: int = 0  # updates done
    num_episodes: int = 0  # trained episodes
    num_action_tokens: int = 0  # trained action tokens
    failures: Counter[str] = field(default_factory=Counter)  # by "kind:stage", healed ones included
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        return {
            "update": self.update,
            "num_episodes": self.num_episodes,
            "num_action_tokens": self.num_action_tokens,
            "failures": dict(self.failures),
            "seconds": dict(self.seconds),
        }


class Controller:
    """Runs updates until the configured number is reached."""

    def __init__(
        self,
        config: RunConfig,
        stream: GroupStream,
        learner: Learner,
        weights: Weights,
        keeper: Keeper,
        log: MetricsLog,
        progress: Progress,
    ) -> None:
        """All parts are ready: the engines hold the version that `progress.update` says."""
        self._config, self._stream, self._learner = config, stream, learner
        self._weights, self._keeper, self._log = weights, keeper, log
        self.progress, self.clock = progress, StageClock()
        self.stage = "starting"

    async def run(self) -> None:
        """Do the remaining updates."""
        while self.progress.update < self._config.learner.updates:
            await self._one_update()

    async def _one_update(self) -> None:
        update = self.progress.update
        with self._stage("rollout"):
            groups = await self._stream.take(version=update)
        with self._stage("credit"):
            batch, metrics = assign(groups, self._config.credit)
        with self._stage("update"):
            metrics |= await self._learner.update(batch, key=update)
        with self._stage("weights"):
            version = await self._weights.publish()
        metrics |= staleness(batch, update)
        self._count(version, groups, batch)
        with self._stage("keep"):
            await self._keeper.keep(version, groups)
            metrics |= await self._keeper.after_update(version)
        self._log.append(version, metrics | self.counts() | self.clock.take())

    def counts(self) -> dict[str, float]:
        """Return the running totals as metrics."""
        state = self._stream.state
        totals = {
            "episodes": float(self.progress.num_episodes),
            "groups/dropped": float(state.num_dropped),
            "async/stale_groups": float(state.num_stale),
        }
        return totals | {f"failures/{label}": float(n) for label, n in sorted(self.progress.failures.items())}

    def count_failure(self, failure: Failure) -> None:
        """Count one failure by its cause."""
        self.progress.failures[failure.label] += 1

    def _count(self, version: int, groups: Sequence[Group], batch: Batch) -> None:
        self.progress.update = version
        self.progress.num_episodes += sum(len(group.trajectories) for group in groups)
        self.progress.num_action_tokens += int((batch.turn_ids >= 0).sum())

    def _stage(self, name: str) -> Any:
        self.stage = name
        return self.clock.stage(name)


def staleness(batch: Batch, version: int) -> dict[str, float]:
    """Return how many updates the trained tokens were behind `version`: mean and maximum."""
    behind = version - batch.versions[batch.loss_mask]
    if not len(behind):
        return {"async/staleness_mean": 0.0, "async/staleness_max": 0.0}
    return {"async/staleness_mean": float(np.mean(behind)), "async/staleness_max": float(np.max(behind))}


async def settle(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
