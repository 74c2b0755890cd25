"""Retries and lost workers, with workers that are plain objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from turnwise.dispatch import Dispatcher
from turnwise.errors import InfraError
from turnwise.records import End, Failure, FailureKind, Task, Trajectory, Turn
from turnwise.rollout.episode import EpisodeSpec, lost_trajectory

Play = Callable[[EpisodeSpec], Trajectory]


def spec(number: int, group: str = "g") -> EpisodeSpec:
    return EpisodeSpec(
        trajectory_id=f"{group}/{number}",
        group_id=group,
        index=number,
        task=Task(env_id="e", task_id="t", seed=1),
        seed=number,
        order=number,
        temperature=1.0,
        attempt=1,
    )


def good(spec: EpisodeSpec) -> Trajectory:
    turn = Turn(
        observation_ids=np.array([1], np.int32),
        action_ids=np.array([2], np.int32),
        logprobs=np.array([-0.5], np.float32),
        versions=np.array([0], np.int32),
    )
    return Trajectory(
        trajectory_id=spec.trajectory_id,
        group_id=spec.group_id,
        index=spec.index,
        task=spec.task,
        turns=(turn,),
        end=End.TERMINATED,
        provenance={"attempt": spec.attempt},
    )


def bad(spec: EpisodeSpec, *, is_retryable: bool = True) -> Trajectory:
    return lost_trajectory(spec, Failure(kind=FailureKind.ENV, stage="step", cause="boom", is_retryable=is_retryable))


class ScriptedPlayer:
    """Plays by a function and remembers what it was given; dies after `lives` episodes."""

    def __init__(self, name: str, play: Play, lives: int | None = None) -> None:
        self.name, self.load, self._play, self._lives = name, 0, play, lives
        self.seen: list[EpisodeSpec] = []

    async def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        for one in specs:
            await asyncio.sleep(0)
            if self._lives is not None and len(self.seen) >= self._lives:
                raise InfraError(f"{self.name} died")
            self.seen.append(one)
            yield self._play(one)


def play(
    players: Sequence[ScriptedPlayer], specs: Sequence[EpisodeSpec], attempts: int = 3
) -> tuple[list[Trajectory], list[Failure]]:
    failures: list[Failure] = []

    async def run() -> list[Trajectory]:
        dispatcher = Dispatcher(players, attempts, failures.append)
        return [trajectory async for trajectory in dispatcher.play(specs)]

    return asyncio.run(asyncio.wait_for(run(), 20)), failures


def test_every_episode_comes_back_once_and_a_group_stays_together() -> None:
    players = [ScriptedPlayer("a", good), ScriptedPlayer("b", good)]
    specs = [spec(i, group) for group in ("g", "h") for i in range(4)]
    played, failures = play(players, specs)
    assert sorted(t.trajectory_id for t in played) == sorted(s.trajectory_id for s in specs)
    assert [{s.group_id for s in player.seen} for player in players] == [{"g"}, {"h"}]
    assert not failures
    assert [player.load for player in players] == [0, 0]


def test_a_failed_episode_is_tried_again_on_another_worker() -> None:
    players = [ScriptedPlayer("a", bad), ScriptedPlayer("b", good)]
    played, failures = play(players, [spec(0)])
    assert [t.end for t in played] == [End.TERMINATED]
    assert played[0].provenance["attempt"] == 2
    assert [f.label for f in failures] == ["env:step"]
    assert [len(player.seen) for player in players] == [1, 1]


def test_after_the_last_attempt_the_failure_comes_back_as_a_record() -> None:
    player = ScriptedPlayer("a", bad)
    played, failures = play([player], [spec(0)], attempts=2)
    assert [t.end for t in played] == [End.FAILED]
    assert [s.attempt for s in player.seen] == [1, 2]
    assert len(failures) == 2


def test_a_failure_of_the_policy_is_not_tried_again() -> None:
    player = ScriptedPlayer("a", lambda s: bad(s, is_retryable=False))
    played, _ = play([player], [spec(0)])
    assert len(player.seen) == 1
    assert played[0].failure is not None


def test_a_worker_that_dies_loses_no_episode() -> None:
    dying, other = ScriptedPlayer("a", good, lives=3), ScriptedPlayer("b", good)
    specs = [spec(i) for i in range(8)]
    played, failures = play([dying, other], specs)
    assert sorted(t.trajectory_id for t in played) == sorted(s.trajectory_id for s in specs)
    assert all(t.end is End.TERMINATED for t in played)
    assert {f.label for f in failures} == {"infra:worker"}
    assert len(failures) == 5
    assert dying.load == other.load == 0
