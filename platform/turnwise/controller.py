"""The one loop: take scored groups, turn scores into credit, update the policy, give the new weights to the engines.

This is the only place that knows the whole line. It runs on the driver as plain async Python and holds no tensors:
batches are numpy arrays, weights go from the learner to the engines by reference.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from turnwise.config.schema import RunConfig
from turnwise.credit.assign import assign
from turnwise.errors import MaskedError, UserError
from turnwise.monitor.metrics import MetricsLog
from turnwise.monitor.names import EPISODES_PER_S, FAILURES, TOKENS_PER_S
from turnwise.monitor.timing import StageClock
from turnwise.records import Batch, Failure, Group
from turnwise.registry import lookup
from turnwise.stream import GroupStream

PATIENCE = 5
"""Updates within which every channel of `credit.channels` must have had a score, and an estimator that compares by
keys one key; where there is none, it is a mistake."""


class Learner(Protocol):
    """The learner as the controller sees it."""

    async def update(self, batch: Batch, key: int) -> dict[str, float]:
        """Return the metrics of one update; doing it twice under one key does it once."""


class Weights(Protocol):
    """Whoever brings the learner's weights to the engines."""

    async def publish(self) -> int:
        """Return the version that every engine has proven to hold."""


class Scorers(Protocol):
    """The scorers as the controller sees them."""

    def account(self, groups: Sequence[Group]) -> tuple[dict[str, float], str]:
        """Return the masked shares of an update's groups as metrics, and what is wrong with them or ""."""

    def take_failures(self) -> list[Failure]:
        """Return the scorers' failures since the last call."""

    async def update(self, groups: Sequence[Group], key: int) -> dict[str, float]:
        """Let those that learn do so, once a key; return the metrics of all. A failure is counted, not raised."""


class Keeper(Protocol):
    """Whoever stores groups, checkpoints and looks after held-out tasks between updates."""

    async def keep(self, update: int, groups: Sequence[Group]) -> None:
        """Store the groups that an update was made from."""

    async def after_update(self, update: int) -> None:
        """Checkpoint and evaluate when it is time."""


@dataclass(slots=True)
class Progress:
    """What the controller counts; part of a checkpoint."""

    update: int = 0  # updates done
    num_episodes: int = 0  # trained episodes
    num_action_tokens: int = 0  # trained action tokens
    failures: Counter[str] = field(default_factory=Counter)  # by "kind:stage", healed ones included

    def count(self, failure: Failure) -> bool:
        """Count a failure; return whether it is the first of its label."""
        self.failures[failure.label] += 1
        return self.failures[failure.label] == 1

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        return {
            "update": self.update,
            "num_episodes": self.num_episodes,
            "num_action_tokens": self.num_action_tokens,
            "failures": dict(self.failures),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Progress:
        """Return what `to_json` wrote."""
        return cls(**{**data, "failures": Counter(data["failures"])})


class Controller:
    """Runs updates until the configured number is reached."""

    def __init__(
        self,
        config: RunConfig,
        stream: GroupStream,
        learner: Learner,
        weights: Weights,
        scorers: Scorers,
        keeper: Keeper,
        log: MetricsLog,
        progress: Progress,
        clock: StageClock | None = None,
        gauges: Callable[[], Mapping[str, float]] = dict,
        on_failure: Callable[[Failure], Any] | None = None,
    ) -> None:
        """All parts are ready: the engines hold the version that `progress.update` says.

        `gauges` returns what else is to be in every line of metrics. `on_failure` is told of every failure of a scorer,
        and counts it in `progress`, as is done without it.
        """
        self._config, self._stream, self._learner = config, stream, learner
        self._weights, self._scorers, self._keeper, self._log = weights, scorers, keeper, log
        self.progress, self.clock, self._gauges = progress, clock or StageClock(), gauges
        self._on_failure = on_failure or progress.count
        self._reported = Counter(progress.failures)
        self._stopping = asyncio.Event()
        self._seen_channels: set[str] = set()
        self._has_keys = False
        self._num_updates = 0  # of this process
        self.last: dict[str, float] = {}  # metrics of the last update whose metrics are known
        self.last_update = progress.update  # its number

    async def run(self) -> bool:
        """Do the remaining updates; return False if `stop` ended it before the last."""
        while self.progress.update < self._config.learner.updates:
            with self.clock("rollout"):
                groups = await self._take()
            if groups is None:
                return False
            await self._one_update(groups)
        return True

    def stop(self) -> None:
        """End the run before its next update: what is running is left, what is half done is finished."""
        self._stopping.set()

    async def _take(self) -> list[Group] | None:
        """Return the next batch of groups, or None when the run is to be stopped; no group is lost by that."""
        if self._stopping.is_set():
            return None
        taking = asyncio.create_task(self._stream.take(version=self.progress.update))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                return await taking
            if taking.done() and taking.exception() is None:
                self._stream.give_back(taking.result())
            return None
        finally:
            taking.cancel()
            stopping.cancel()

    async def _one_update(self, groups: Sequence[Group]) -> None:
        update = self.progress.update
        shares = self._account(groups)
        with self.clock("credit"):
            batch, metrics = self._assign(groups)
        version, learnt = await self._learn(batch, groups)
        metrics |= shares | learnt | staleness(batch, update)
        self._count(version, groups, batch)
        with self.clock("store"):
            await self._keeper.keep(version, groups)
        lap = self.clock.lap()
        self.last = metrics | self.counts() | dict(self._gauges()) | lap | speed(groups, batch, lap["timing_s/total"])
        self.last_update = version
        self._log.log(version, self.last)
        await self._keeper.after_update(version)
        self.clock.lap()

    async def _learn(self, batch: Batch, groups: Sequence[Group]) -> tuple[int, dict[str, float]]:
        """Update policy and scorers at the same time; return the version that the engines hold, and metrics."""
        update = self.progress.update
        scorers = asyncio.create_task(self._scorers.update(groups, key=update))
        try:
            with self.clock("update"):
                metrics = await self._learner.update(batch, key=update)
            with self.clock("weights"):
                version = await self._weights.publish()
            with self.clock("scorers"):
                metrics = metrics | await scorers
        finally:
            scorers.cancel()
        self._count_failures()
        return version, metrics

    def _account(self, groups: Sequence[Group]) -> dict[str, float]:
        """Return how much of the scores is masked; MaskedError, once that is logged, if it is too much."""
        shares, problem = self._scorers.account(groups)
        self._count_failures()
        if problem:
            self._log.log(self.progress.update + 1, shares | self.counts())
            raise MaskedError(problem)
        return shares

    def _assign(self, groups: Sequence[Group]) -> tuple[Batch, dict[str, float]]:
        """Return the batch and its metrics; a weighted channel may be absent, but not from all of the first updates."""
        self._seen_channels |= {score.channel for group in groups for score in group.scores}
        self._num_updates += 1
        self._check_keys(groups)
        declared = self._config.credit.channels if self._num_updates < PATIENCE else self._seen_channels
        threshold = (self._config.eval.success_channel, self._config.eval.success_threshold)
        return assign(groups, self._config.credit, declared=declared, success=threshold, update=self.progress.update)

    def _check_keys(self, groups: Sequence[Group]) -> None:
        """UserError for an estimator that compares by keys which no turn of the first updates has."""
        name = self._config.credit.estimator["name"]
        kind = getattr(lookup("estimator", name), "needs_keys", None)
        turns = [(t, k) for group in groups for t in group.trajectories for k in range(len(t.turns))]
        self._has_keys |= any(getattr(t.turns[k], f"{kind}_key", None) is not None for t, k in turns)
        if kind is None or self._has_keys or not turns or self._num_updates < PATIENCE:
            return
        first, turn = turns[0]
        problem = (
            f"compares turns of equal {kind}_key; {first.trajectory_id} turn {turn} has none, nor had any before it"
        )
        raise UserError("credit.estimator.name", name, problem, f"return a {kind}_key() or choose turn_loo")

    def counts(self) -> dict[str, float]:
        """Return the running totals, and the failures since the last call, as metrics."""
        state = self._stream.state
        totals = {
            "episodes": float(self.progress.num_episodes),
            "groups/dropped": float(state.num_dropped),
            "async/stale_groups": float(state.num_stale),
        }
        if self._config.credit.select:
            totals |= {"select/kept": float(state.num_kept), "select/waiting": float(self._stream.num_buffered)}
            totals |= {f"select/dropped/{name}": float(count) for name, count in sorted(state.left_out.items())}
        if self._stream.curriculum is not None:
            totals |= self._stream.curriculum.metrics()
        new_failures = self.progress.failures - self._reported
        self._reported = Counter(self.progress.failures)
        return totals | {f"{FAILURES}{label}": float(n) for label, n in sorted(new_failures.items())}

    def _count_failures(self) -> None:
        """Count what the scorers failed at; episodes' failures are counted as they come."""
        for failure in self._scorers.take_failures():
            self._on_failure(failure)

    def _count(self, version: int, groups: Sequence[Group], batch: Batch) -> None:
        self.progress.update = version
        self.progress.num_episodes += num_trained(groups)
        self.progress.num_action_tokens += int((batch.turn_ids >= 0).sum())


def staleness(batch: Batch, version: int) -> dict[str, float]:
    """Return how many updates the trained tokens were behind `version`: mean and maximum."""
    behind = version - batch.versions[batch.loss_mask]
    if not len(behind):
        return {"async/staleness_mean": 0.0, "async/staleness_max": 0.0}
    return {"async/staleness_mean": float(np.mean(behind)), "async/staleness_max": float(np.max(behind))}


def speed(groups: Sequence[Group], batch: Batch, seconds: float) -> dict[str, float]:
    """Return trained action tokens and episodes a second of wall time."""
    if seconds <= 0:
        return {}
    num_tokens = float((batch.turn_ids >= 0).sum())
    return {TOKENS_PER_S: num_tokens / seconds, EPISODES_PER_S: num_trained(groups) / seconds}


def num_trained(groups: Sequence[Group]) -> int:
    """Return the number of episodes in the loss; those that a selection left to the statistics do not count."""
    return sum(len(group.trained_now) for group in groups)
