"""The actors of a run: starts them, keeps them alive, and moves weights from the learner to the engines.

The run owns one `Fleet`. Handles of actors are held here and nowhere else. A worker, a scorer or an engine that dies or
hangs is replaced; a lost learner ends the run, which resumes from its last checkpoint.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from turnwise.cluster import actor_env
from turnwise.config.schema import RunConfig
from turnwise.engine.actor import EngineActor
from turnwise.errors import InfraError, TurnwiseError, WeightProofError
from turnwise.learner.actor import LearnerActor
from turnwise.records import Batch, Group, Trajectory
from turnwise.remote import HEARTBEAT_S, Watch, actor_class, ask, own_error, started
from turnwise.rollout.actor import RolloutActor
from turnwise.rollout.episode import EpisodeSpec
from turnwise.sandboxes import Sandboxes
from turnwise.scorers import Scorers
from turnwise.store.actor import start_store


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The weights that every engine has to hold."""

    version: int
    checksum: str
    state: Any  # ObjectRef of {name: array}


class RemotePlayer:
    """A rollout actor as the dispatcher's `Player`."""

    def __init__(self, name: str, actor: Any) -> None:
        """Ray restarts the actor when it dies; the handle stays good."""
        self.name, self.actor, self.load = name, actor, 0

    async def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        """Yield trajectories as they end; InfraError if the actor dies."""
        try:
            async for reference in self.actor.run_many.options(num_returns="streaming").remote(list(specs)):
                yield await reference
        except RayError as error:
            raise InfraError(f"{self.name} died ({type(error).__name__})") from error


class RemoteLearner:
    """The learner actor as the controller and the keeper see it."""

    def __init__(self, actor: Any, update_s: float) -> None:
        """`update_s` limits every call."""
        self.actor, self._update_s = actor, update_s

    async def update(self, batch: Batch, key: int) -> dict[str, float]:
        """Do one update and return its metrics; once a key."""
        metrics: dict[str, float] = await self.call("update", batch, key)
        return metrics

    async def save(self, folder: Path) -> None:
        """Write a checkpoint's files into a folder that the learner's machine sees too."""
        await self.call("save", str(folder))

    async def call(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the actor returns; InfraError if it is lost or late."""
        try:
            return await asyncio.wait_for(getattr(self.actor, method).remote(*arguments), self._update_s)
        except RayTaskError as error:
            raise own_error(error) from error
        except RayActorError as error:
            raise InfraError(f"learner:0 died in {method}; go on from the last checkpoint with resume=true") from error
        except TimeoutError:
            raise InfraError(f"learner:0 took longer than timeouts.update_s={self._update_s:g} in {method}") from None


class RemoteStore:
    """The store actor as the keeper sees it."""

    def __init__(self, actor: Any, limit_s: float) -> None:
        """`limit_s` limits every call."""
        self.actor, self._limit_s = actor, limit_s

    async def append(self, update: int, groups: Sequence[Group], failed: Sequence[Trajectory] = ()) -> int:
        """Store an update's groups; twice is as good as once."""
        return int(await self._call("append", update, list(groups), list(failed)))

    async def append_eval(
        self, tag: str, groups: Sequence[Group], update: int = 0, failed: Sequence[Trajectory] = ()
    ) -> str:
        """Store an evaluation's episodes."""
        return str(await self._call("append_eval", tag, list(groups), update, list(failed)))

    async def truncate_after(self, update: int) -> None:
        """Remove what later updates stored."""
        await self._call("truncate_after", update)

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(getattr(self.actor, method).remote(*arguments), self._limit_s)
        except RayTaskError as error:
            raise own_error(error) from error
        except (RayActorError, TimeoutError) as error:
            raise InfraError(f"store: {type(error).__name__} in {method}") from error


class Fleet:
    """The actors of one run; of an evaluation, those that play; of a warm start, the learner alone."""

    def __init__(
        self, config: RunConfig, model_path: Path, folder: Path, *, learns: bool = True, plays: bool = True
    ) -> None:
        """Create the actors; they start at the same time, and `start` waits for them.

        Without a learner the engines sample with the model in `model_path`; with one they wait for its weights.
        """
        self._config, self._model_path, self._folder = config, str(model_path), str(folder.resolve())
        self._learns = learns
        self._published: Published | None = None
        self._publishing = asyncio.Lock()
        self._watch = Watch(config.timeouts.start_s)
        self._supervisor: asyncio.Task[None] | None = None
        self._trouble = ""  # what the supervisor met last
        self.engines: dict[str, Any] = {}
        self.players: list[RemotePlayer] = []
        self._others: dict[str, Any] = {}  # learner and store
        self.sandboxes = Sandboxes(config.sandbox, self._watch, plays=plays)
        if learns:
            self._others["learner:0"] = self._learner()
        if plays:
            self.engines["engine:0"] = self._engine("engine:0")
            self.players = [self._player(f"rollout:{index}") for index in range(config.rollout.workers)]
        if learns and plays:
            self._others["store"] = start_store(self._folder)
        self.scorers = Scorers(config, self._watch, plays=learns and plays)

    @property
    def learner(self) -> RemoteLearner:
        """The learner; KeyError in a fleet that does not learn."""
        return RemoteLearner(self._others["learner:0"], self._config.timeouts.update_s)

    @property
    def store(self) -> RemoteStore:
        """The store; KeyError in a fleet without one."""
        return RemoteStore(self._others["store"], self._config.timeouts.update_s)

    @property
    def trouble(self) -> str:
        """What keeps actors from being well, for a message; mostly nothing."""
        return "; ".join(filter(None, (self._trouble, self.scorers.trouble)))

    async def start(self) -> None:
        """Wait until every actor answers; the error of the one that cannot start, or InfraError naming who is late."""
        limit_s = self._config.timeouts.start_s
        await asyncio.gather(*(started(name, actor, limit_s) for name, actor in self._actors().items()))
        self._supervisor = asyncio.create_task(self._supervise())

    async def publish(self) -> int:
        """Bring the learner's weights to every engine and return their version, proven by each; WeightProofError.

        An engine that dies meanwhile proves them before it samples again.
        """
        version, checksum, state = await self.learner.call("export")
        async with self._publishing:
            self._published = Published(version=version, checksum=checksum, state=state)
            await asyncio.gather(*(self._load(name) for name in self.engines))
        return int(version)

    async def phases(self) -> Counter[str]:
        """Return how many episodes are in which phase, of the workers that answer."""
        statuses = await asyncio.gather(*(ask(player.actor.status.remote()) for player in self.players))
        running = [episode["phase"] for status in statuses if status for episode in status["running"]]
        return Counter(running) + Counter(waiting=sum(status["waiting"] for status in statuses if status))

    async def close(self) -> None:
        """End all actors; the cluster may go on."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        await self.scorers.close()
        await self.sandboxes.close()
        for actor in self._actors().values():
            ray.kill(actor)

    def _actors(self) -> dict[str, Any]:
        players = {player.name: player.actor for player in self.players}
        return {**self.engines, **self._others, **players, **self.scorers.actors, **self.sandboxes.actors}

    async def _load(self, name: str) -> None:
        """Give one engine the published weights and check its receipt."""
        published = self._published
        if published is None:
            return
        update = self.engines[name].update_weights.remote(published.version, published.checksum, published.state)
        try:
            receipt = await asyncio.wait_for(update, self._config.timeouts.weights_s)
        except RayTaskError as error:
            raise own_error(error) from error
        except RayActorError:
            return  # the supervisor gives the restarted one its weights before it samples
        except TimeoutError:
            late = f"{name} took longer than timeouts.weights_s={self._config.timeouts.weights_s:g}"
            raise InfraError(late) from None
        if (receipt.version, receipt.checksum) != (published.version, published.checksum):
            held = f"version {receipt.version} ({receipt.checksum})"
            raise WeightProofError(f"{name} holds {held} instead of {published.version} ({published.checksum})")

    async def _supervise(self) -> None:
        """Look at workers and engines for ever: replace what hangs or is worn, give a new engine its weights."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await asyncio.gather(*(self._look_at_engine(name) for name in self.engines))
                await asyncio.gather(*(self._look_at_player(player) for player in self.players))
                await self.scorers.look()
                await self.sandboxes.look()
            except TurnwiseError as error:  # tried again at the next look; said if the run stalls meanwhile
                self._trouble = str(error)

    async def _look_at_engine(self, name: str) -> None:
        status = await ask(self.engines[name].status.remote())
        if self._watch.is_hung(name, status):
            self._watch.replace(name, self.engines[name])
        if status and not status["is_proven"] and self._published is not None:
            async with self._publishing:
                await self._load(name)

    async def _look_at_player(self, player: RemotePlayer) -> None:
        status = await ask(player.actor.status.remote())
        limit = self._config.rollout.max_lost_threads
        is_worn = bool(status) and status["lost_threads"] >= (limit if player.load == 0 else 2 * limit)
        if self._watch.is_hung(player.name, status) or is_worn:
            self._watch.replace(player.name, player.actor)

    def _engine(self, name: str) -> Any:
        section = dict(self._config.engine)
        options = {key: value for key, value in section.items() if key != "name"}
        return actor_class(
            EngineActor, name, gpus=self._config.ray.engine_gpus, env=actor_env(options.get("threads", 1))
        ).remote(
            name=section["name"],
            options=options,
            model_path=self._model_path,
            dtype=self._config.model.dtype,
            lockstep=is_lockstep(self._config),
            waits_for_weights=self._learns,
        )

    def _learner(self) -> Any:
        config = self._config
        options = {"num_cpus": 0, "num_gpus": config.ray.learner_gpus, "name": "learner:0"}
        env = {"env_vars": actor_env(config.learner.threads)}
        kind: Any = LearnerActor
        return kind.options(**options, runtime_env=env).remote(
            self._model_path, config.learner, config.model.dtype, config.seed
        )

    def _player(self, name: str) -> RemotePlayer:
        config = self._config
        actor = actor_class(RolloutActor, name, cpus=config.rollout.cpus_per_worker).remote(
            name=name,
            env_id=config.env.id,
            env_kwargs=config.env.kwargs,
            agent=config.agent,
            model_path=self._model_path,
            engines=list(self.engines),
            timeouts=config.timeouts,
            slots=config.rollout.slots,
            max_lost_threads=config.rollout.max_lost_threads,
            oracle=config.rollout.oracle,
            success=(config.eval.success_channel, config.eval.success_threshold),
            sandboxes=list(self.sandboxes.actors),
        )
        return RemotePlayer(name, actor)


def is_lockstep(config: RunConfig) -> bool:
    """Whether engines sample in lock-step: as configured, or where `auto` is, in synchronous runs."""
    batching = config.engine.get("batching", "auto")
    return batching == "lockstep" or (batching == "auto" and config.rollout.max_staleness == 0)
