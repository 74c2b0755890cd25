"""Hands episodes to rollout workers and tries failed ones again elsewhere.

The group stream and the evaluation call `play`. It returns one trajectory for every episode asked for: a complete one,
or after `max_attempts` one that carries its `Failure`; and one more for each guided attempt that a worker has follow.
It knows nothing of Ray: a `Player` is any rollout worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from turnwise.errors import InfraError, failure_of
from turnwise.records import Failure, Trajectory
from turnwise.rollout.episode import EpisodeSpec, lost_trajectory

BACKOFF_S = 0.2
"""Pause before the second attempt; doubled for each further one, at most 5 s."""


class Player(Protocol):
    """A rollout worker as the dispatcher sees it."""

    name: str
    load: int  # episodes handed to it that have not come back

    def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        """Yield the trajectory of each spec, and of a guided attempt that follows, as it ends; InfraError if lost."""


class Dispatcher:
    """Spreads episodes over workers; a group stays together."""

    def __init__(self, players: Sequence[Player], max_attempts: int, on_failure: Callable[[Failure], None]) -> None:
        """`on_failure` is told of every failure, those that a retry heals included."""
        self._players, self._max_attempts, self._on_failure = tuple(players), max_attempts, on_failure

    async def play(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        """Yield one trajectory for each spec, and for each guided attempt that follows, in the order of their ends."""
        done: asyncio.Queue[Trajectory | BaseException] = asyncio.Queue()
        runs: set[asyncio.Task[None]] = set()

        def launch(player: Player, part: Sequence[EpisodeSpec], delay_s: float = 0.0) -> None:
            run = asyncio.create_task(self._run(player, part, delay_s, done, launch))
            runs.add(run)
            run.add_done_callback(runs.discard)

        try:
            for player, part in self._share(specs):
                launch(player, part)
            num_open = len(specs)
            while num_open:
                result = await done.get()
                if isinstance(result, BaseException):
                    raise result
                num_open += int(result.is_followed) - 1
                yield result
        finally:
            for run in runs:
                run.cancel()

    def _share(self, specs: Sequence[EpisodeSpec]) -> list[tuple[Player, list[EpisodeSpec]]]:
        """Give each group to the worker with the fewest episodes; ties by position, so equal runs share alike."""
        load = {player.name: player.load for player in self._players}
        parts: dict[str, list[EpisodeSpec]] = {player.name: [] for player in self._players}
        for group in dict.fromkeys(spec.group_id for spec in specs):
            members = [spec for spec in specs if spec.group_id == group]
            name = min(load, key=lambda key: load[key])
            load[name] += len(members)
            parts[name].extend(members)
        return [(player, parts[player.name]) for player in self._players if parts[player.name]]

    async def _run(
        self,
        player: Player,
        specs: Sequence[EpisodeSpec],
        delay_s: float,
        done: asyncio.Queue[Trajectory | BaseException],
        launch: Callable[[Player, Sequence[EpisodeSpec], float], None],
    ) -> None:
        await asyncio.sleep(delay_s)
        open_specs = {spec.trajectory_id: spec for spec in specs}
        player.load += len(specs)

        def settle(trajectory: Trajectory) -> None:
            spec = open_specs.pop(trajectory.trajectory_id)
            player.load -= 1
            failure = trajectory.failure
            if failure is not None:
                self._on_failure(failure)
                if failure.is_retryable and spec.attempt < self._max_attempts:
                    again = replace(spec, attempt=spec.attempt + 1)
                    launch(self._another(player), [again], min(5.0, BACKOFF_S * 2.0 ** (spec.attempt - 1)))
                    return
            if trajectory.is_followed and spec.again is not None:  # by the same worker, without being asked
                again = replace(spec.again, guidance=trajectory.provenance["offered"])
                open_specs[again.trajectory_id] = again
                player.load += 1
            done.put_nowait(trajectory)

        try:
            async for trajectory in player.run_many(specs):
                settle(trajectory)
            lost = InfraError(f"worker {player.name} ended without its episodes")
        except InfraError as error:
            lost = error
        except Exception as error:  # noqa: BLE001 - handed to whoever waits in `play`
            done.put_nowait(error)
            return
        for spec in list(open_specs.values()):
            settle(lost_trajectory(spec, failure_of(lost, "worker")))

    def _another(self, player: Player) -> Player:
        others = [other for other in self._players if other is not player]
        return min(others or [player], key=lambda other: other.load)
