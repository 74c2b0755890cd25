"""The actors of a run: starts them, keeps them alive, and moves weights from the learner to the engines.

The controller owns one `Fleet`. This module and the actor shells are the only ones that know Ray's actors; handles are
held here and nowhere else. A worker or an engine that dies or hangs is replaced; a lost learner ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from turnwise.cluster import actor_env
from turnwise.config.schema import RunConfig
from turnwise.engine.actor import EngineActor
from turnwise.errors import EngineError, InfraError, JudgeError, WeightProofError, failure_of
from turnwise.learner.actor import LearnerActor
from turnwise.records import Batch, Group, Score, Trajectory
from turnwise.reward.actor import RewardActor
from turnwise.rollout.actor import RolloutActor
from turnwise.rollout.episode import EpisodeSpec
from turnwise.store.actor import StoreActor

HEARTBEAT_S = 2.0
"""Seconds between two looks at every worker and engine."""

MISSES = 3
"""Looks in a row without an answer after which an actor counts as hung and is killed."""


@dataclass(slots=True)
class Published:
    """The weights that every engine has to hold."""

    version: int
    checksum: str
    state: Any  # ObjectRef of {name: array}


class RemotePlayer:
    """A rollout actor as the dispatcher's `Player`."""

    def __init__(self, name: str, actor: Any) -> None:
        """`actor` is restarted by Ray when it dies; the handle stays good."""
        self.name, self.actor, self.load = name, actor, 0

    async def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        """Yield trajectories as they end; InfraError if the actor dies."""
        try:
            async for ref in self.actor.run_many.remote(list(specs)):
                yield await ref
        except RayActorError as error:
            raise InfraError(f"{self.name} died ({type(error).__name__})") from error


class RemoteScorer:
    """A reward actor as the stream's `GroupScorer`; one that cannot be reached masks its scores."""

    def __init__(self, name: str, actor: Any, timeout_s: float) -> None:
        """Allow `timeout_s` beyond the actor's own limit."""
        self.name, self.actor, self._timeout_s = name, actor, timeout_s

    async def score(self, group: Group) -> Sequence[Score]:
        """Return the scores of a group's trajectories."""
        try:
            return await asyncio.wait_for(self.actor.score.remote(group), self._timeout_s)  # type: ignore[no-any-return]
        except (RayActorError, TimeoutError) as error:
            failure = failure_of(JudgeError(f"{self.name}: {type(error).__name__}"), "score")
            return [
                Score(trajectory_id=t.trajectory_id, channel="*", value=None, source=self.name, failure=failure)
                for t in group.trajectories
            ]


class Fleet:
    """All actors of one run."""

    def __init__(self, config: RunConfig, model_path: Path, folder: Path, *, lockstep: bool) -> None:
        """Create the actors; they start in parallel and `ready` waits for them."""
        self._config, self._published = config, None
        self._model_path, self._folder, self._lockstep = model_path, folder, lockstep
        self._restarts = 0
        self._misses: dict[str, int] = {}
        self._publishing = asyncio.Lock()
        self.learner = self._start_learner()
        self.engines = [self._start_engine()]
        self.store = self._start_store()
        self.players = [self._start_player(index) for index in range(config.rollout.workers)]
        self.scorers = [self._start_scorer(index, dict(spec)) for index, spec in enumerate(config.rewards)]
        self._supervisor: asyncio.Task[None] | None = None
