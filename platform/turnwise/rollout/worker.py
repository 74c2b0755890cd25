"""`RolloutWorker`: many episodes at once on one event loop, each in a slot with a world of its own.

Its actor shell and tests use it. It never raises for an episode: what fails comes back as a failed trajectory. It does
not try again and does not replace itself; whoever owns it looks at `is_worn`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from turnwise.agent import Agent, Programmed
from turnwise.config.schema import TimeoutConfig
from turnwise.errors import failure_of
from turnwise.records import FailureKind, Trajectory
from turnwise.rollout.episode import Client, EpisodeSpec, Live, Stage, lost_trajectory, run_episode
from turnwise.rollout.guided import has_failed
from turnwise.rollout.threads import LostThreads
from turnwise.rollout.world import Environment, World
from turnwise.tasks import make_env

if TYPE_CHECKING:
    from turnwise.rollout.program import Programs


@dataclass(slots=True)
class _Job:
    """An episode that was asked for, and who waits for it."""

    live: Live
    deliver: Callable[[Trajectory], None]

    @property
    def session(self) -> str:
        return self.live.spec.session


class RolloutWorker:
    """Runs episodes of one environment and one agent."""

    def __init__(
        self,
        name: str,
        env_id: str,
        env_kwargs: Mapping[str, Any],
        agent: Agent,
        client: Client,
        timeouts: TimeoutConfig,
        slots: int,
        max_lost_threads: int = 64,
        *,
        oracle: bool = False,
        success: tuple[str, float] = ("outcome", 0.5),
    ) -> None:
        """At most `slots` episodes run at once; further ones wait in the order of their coming.

        `oracle`: ask the environment's oracle about every action. `success`: an episode whose events on this channel
        sum to at most this threshold has failed, and may be followed by a guided one.
        """
        self._success = success
        self.name, self.slots, self.max_lost_threads = name, slots, max_lost_threads
        self._make: Callable[[], Environment] = lambda: make_env(env_id, dict(env_kwargs))
        self._agent, self._client, self._timeouts, self._asks_oracle = agent, client, timeouts, oracle
        self._waiting: deque[_Job] = deque()
        self._running: dict[str, Live] = {}  # by session
        self._lanes: set[asyncio.Task[None]] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._idle: list[World] = []
        self._lost = LostThreads()
        self._failures: Counter[str] = Counter()
        self._num_episodes = self._num_turns = self._num_worlds = 0
        self._programs: Programs | None = None
        if isinstance(agent, Programmed):
            from turnwise.rollout.program import Programs  # needs packages that other agents do without

            self._programs = Programs(agent, client, timeouts)

    async def run(self, spec: EpisodeSpec) -> Trajectory:
        """Run one episode as soon as a slot is free."""
        async for trajectory in self.run_many([spec]):
            return trajectory
        raise AssertionError("an episode ended without a trajectory")

    async def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        """Yield the trajectory of each spec as it ends, and of the guided attempts that follow (`is_followed`).

        Leaving early drops the episodes that have not begun.
        """
        done: asyncio.Queue[Trajectory] = asyncio.Queue()
        jobs = [_Job(Live(spec), done.put_nowait) for spec in specs]
        self._waiting.extend(jobs)
        self._fill()
        try:
            num_open = len(jobs)
            while num_open:
                trajectory = await done.get()
                num_open += int(trajectory.is_followed) - 1
                yield trajectory
        finally:
            self._drop(jobs)

    @property
    def is_worn(self) -> bool:
        """Whether so many threads hang in environments that the worker should be replaced."""
        return self._lost.now >= self.max_lost_threads

    def status(self) -> dict[str, Any]:
        """Return what is running and what has been done, as plain JSON."""
        return {
            "name": self.name,
            "running": [_shown(live) for live in self._running.values()],
            "waiting": len(self._waiting),
            "episodes": self._num_episodes,
            "turns": self._num_turns + sum(len(live.turns) for live in self._running.values()),
            "failures": dict(self._failures),
            "environments_made": self._num_worlds,
            "lost_threads": self._lost.now,
            "lost_threads_total": self._lost.total,
            "is_worn": self.is_worn,
        }

    async def close(self) -> None:
        """Stop all episodes, without trajectories, and close all environments."""
        self._waiting.clear()
        for lane in list(self._lanes):
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        while self._idle:
            self._discard(self._idle.pop())
        await asyncio.gather(*self._closings)
        if self._programs is not None:
            await self._programs.close()

    def _fill(self) -> None:
        """Start waiting episodes in free slots, in order; their sessions are opened together."""
        count = min(self.slots - len(self._lanes), len(self._waiting))
        jobs = [self._waiting.popleft() for _ in range(count)]
        if not jobs:
            return
        self._announce(opened=[job.session for job in jobs])
        for job in jobs:
            lane = asyncio.create_task(self._lane(job))
            self._lanes.add(lane)
            lane.add_done_callback(self._lane_ended)

    async def _lane(self, first: _Job) -> None:
        """Run one episode after another; the next one's session is opened before the last one's is closed.

        A guided attempt comes right after its first, in the same slot and world. So nothing that depends on time
        decides what a lock-step batch holds.
        """
        job: _Job | None = first
        world = self._idle.pop() if self._idle else self._new_world()
        try:
            while job is not None:
                ended, following = await self._followed(job, await self._episode(job, world), world)
                if ended[-1].failure is not None:
                    self._discard(world)
                    world = self._new_world()
                following = following or (self._waiting.popleft() if self._waiting else None)
                self._announce(opened=[following.session] if following else [], closed=[job.session])
                for trajectory in ended:
                    job.deliver(trajectory)
                job = following
        except BaseException:
            self._announce(closed=[job.session] if job is not None else [])
            self._discard(world)
            raise
        self._idle.append(world)

    async def _followed(self, job: _Job, trajectory: Trajectory, world: World) -> tuple[list[Trajectory], _Job | None]:
        """Return what is to be delivered after an episode, and the guided attempt that follows it if one does.

        An environment that fails at its guidance fails the guided attempt, not the first one.
        """
        again = job.live.spec.again
        if again is None or not has_failed(trajectory, self._success):
            return [trajectory], None
        try:
            guidance = await world.guide(self._timeouts.step_s)
        except Exception as error:  # noqa: BLE001 - the border where an environment's error becomes a record
            failure = replace(failure_of(error, Stage.GUIDE.value), is_retryable=False)
            self._failures[failure.label] += 1
            return [_offered(trajectory, ""), lost_trajectory(replace(again, guidance=""), failure)], None
        if guidance is None:
            return [trajectory], None
        return [_offered(trajectory, guidance)], _Job(Live(replace(again, guidance=guidance)), job.deliver)

    async def _episode(self, job: _Job, world: World) -> Trajectory:
        live = self._running[job.session] = job.live
        live.started = time.monotonic()
        try:
            trajectory = await run_episode(
                live.spec, world, self._agent, self._client, self._timeouts, live, self._programs
            )
        finally:
            del self._running[job.session]
        self._num_episodes += 1
        self._num_turns += len(trajectory.turns)
        if trajectory.failure is not None:
            self._failures[trajectory.failure.label] += 1
        return replace(trajectory, provenance={**trajectory.provenance, "worker": self.name})

    def _announce(self, *, opened: Sequence[str] = (), closed: Sequence[str] = ()) -> None:
        """Open engine sessions, then close others; if the engine is gone, the episodes' own requests will say so."""
        try:
            if opened:
                self._client.open(opened)
            if closed:
                self._client.close(closed)
        except Exception as error:  # noqa: BLE001 - counted; an episode never dies of it
            self._failures[failure_of(error, "session", FailureKind.ENGINE).label] += 1

    def _new_world(self) -> World:
        self._num_worlds += 1
        name = f"{self.name}:world:{self._num_worlds}"
        return World(name, self._make, self._lost, asks_oracle=self._asks_oracle)

    def _discard(self, world: World) -> None:
        closing = asyncio.create_task(world.close())
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)

    def _drop(self, jobs: Sequence[_Job]) -> None:
        """Forget those of the jobs that have not begun."""
        unwanted = {id(job) for job in jobs}
        self._waiting = deque(job for job in self._waiting if id(job) not in unwanted)

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        if not lane.cancelled() and lane.exception() is not None:
            asyncio.get_running_loop().call_exception_handler({"message": f"{self.name}: a slot died", "task": lane})
        self._fill()


def _offered(trajectory: Trajectory, guidance: str) -> Trajectory:
    return replace(trajectory, provenance={**trajectory.provenance, "offered": guidance})


def _shown(live: Live) -> dict[str, Any]:
    return {
        "trajectory_id": live.spec.trajectory_id,
        "attempt": live.spec.attempt,
        "phase": live.stage.value,
        "turns": len(live.turns),
        "seconds": time.monotonic() - live.started,
    }
