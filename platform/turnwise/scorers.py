"""The reward actors of a run: asks them for scores, lets those that learn do so, saves them, and keeps them alive.

The fleet owns one `Scorers`. A reward actor that dies is started again by Ray, and the new one scores its groups. A
scorer that learns has lost its weights then: it begins again and goes on from the last checkpoint before it scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from turnwise.config.schema import RunConfig
from turnwise.errors import InfraError, JudgeError, TurnwiseError, UserError, failure_of
from turnwise.records import Failure, Group, Score
from turnwise.remote import Watch, actor_class, ask, own_error
from turnwise.reward import Start
from turnwise.reward.actor import RewardActor
from turnwise.reward.host import NOT_BEGUN
from turnwise.reward.masks import masked_scores
from turnwise.reward.tally import Tally
from turnwise.sandbox.pooled import pool_names

FOLDER = "scorers"
"""Folder of a checkpoint; in it a folder for each scorer that learns, named after its place and name."""

CLOSE_S = 8.0
"""Seconds that a reward actor has to shut down before it is ended; more than its scorer has to close."""

POLL_S = 0.25
"""Seconds between two looks at a reward actor that is being started again."""

GAUGES = ("queue", "latency_p95_s", "retries", "annotated", "annotations_waiting", "annotations_failed")
"""What of a host's status is a metric as it is, where it is there."""


class RemoteScorer:
    """A reward actor as the stream's `GroupScorer`; one that cannot be reached masks its scores."""

    def __init__(self, actor: Any, config: RunConfig, index: int, label: str) -> None:
        """`index` is the scorer's place in the configuration; `label` names it in metrics."""
        self.actor, self.label, self._config = actor, label, config
        section = str(config.rewards[index]["name"])
        self.name, self.folder = f"reward:{section}:{index}", f"{index}-{section}"
        self._room = asyncio.Semaphore(config.scoring.concurrency + config.scoring.queue)
        self.tally = Tally()
        self.channels: tuple[str, ...] = ()
        self.needs_start = self.is_trainable = self.has_answered = False
        self.num_failed_updates = 0
        self.failures: list[Failure] = []  # those that nobody has asked for
        self._returning: asyncio.Task[bool] | None = None
        self._before = (0, 0.0, 0.0)  # groups, seconds of scoring and of waiting when metrics were made last

    async def score(self, group: Group) -> Sequence[Score]:
        """Return the scores of a group's trajectories; if the actor is lost, those of the one that takes its place."""
        async with self._room:
            scores: Sequence[Score] = ()
            for _ in range(self._config.scoring.attempts):
                scores, is_final = await self._once(group)
                if is_final or not await self.is_back():
                    break
            self.tally.add(group, scores)
            return scores

    async def look(self) -> Mapping[str, Any] | None:
        """Return the host's status, or None if the actor does not answer."""
        status: Mapping[str, Any] | None = await ask(self.actor.status.remote())
        return status

    def describe(self, status: Mapping[str, Any]) -> None:
        """Take note of what the scorer is, from its host's status."""
        self.channels = tuple(status["channels"])
        self.needs_start, self.is_trainable = bool(status["needs_start"]), bool(status["is_trainable"])
        self.has_answered = True

    async def is_back(self) -> bool:
        """Wait until the actor that takes a lost one's place is ready; False if it is not in time."""
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._wait_until_ready())
        return await asyncio.shield(self._returning)

    async def call(self, method: str, *arguments: Any, limit_s: float) -> Any:
        """Return what a method of the actor returns; its own error, or InfraError if it is lost or late."""
        try:
            return await asyncio.wait_for(getattr(self.actor, method).remote(*arguments), limit_s)
        except RayTaskError as error:
            raise own_error(error) from error
        except (RayError, TimeoutError) as error:
            raise InfraError(f"{self.name}: {type(error).__name__} in {method}") from error

    def metrics(self, status: Mapping[str, Any]) -> dict[str, float]:
        """Return a status as metrics: seconds are means of the groups since the last call."""
        former, self._before = self._before, (status["groups"], status["scoring_s"], status["waiting_s"])
        groups, scoring_s, waiting_s = (now - then for now, then in zip(self._before, former, strict=True))
        found = {name: status[name] for name in GAUGES if name in status} | status["usage"]
        found["breaker_open"] = status["breaker"] != "closed"
        if groups > 0:
            found |= {"latency_s": scoring_s / groups, "wait_s": waiting_s / groups}
        if self.is_trainable:
            found |= {"version": status["version"]}
        return {f"reward/{self.label}/{name}": float(value) for name, value in found.items()}

    async def _once(self, group: Group) -> tuple[Sequence[Score], bool]:
        """Return scores, and whether they are final: they are not if the actor was lost or has not begun again."""
        try:
            scores: Sequence[Score] = await asyncio.wait_for(self.actor.score.remote(group), self._limit_s())
            has_begun = not any(s.failure is not None and s.failure.stage == NOT_BEGUN for s in scores)
            return scores, has_begun
        except (RayError, TimeoutError) as error:
            failure = failure_of(JudgeError(f"{self.name}: {type(error).__name__}"), "score")
            scores = masked_scores(group, self.channels, failure, source=self.name)
            return scores, isinstance(error, TimeoutError)

    def _limit_s(self) -> float:
        """Return the seconds that a group may wait and be scored: as long as all others before it, and an update."""
        timeouts, rollout = self._config.timeouts, self._config.rollout
        ahead = (rollout.max_staleness + 1) * rollout.groups_per_update
        return timeouts.score_s * (ahead + 1) + (timeouts.update_s if self.is_trainable else 0.0)

    async def _wait_until_ready(self) -> bool:
        try:
            async with asyncio.timeout(self._config.timeouts.start_s):
                while True:
                    await asyncio.sleep(POLL_S)
                    status = await self.look()
                    if status and status["is_ready"]:
                        return True
        except TimeoutError:
            return False


class Scorers:
    """All reward actors of a run, in the order of the configuration."""

    def __init__(self, config: RunConfig, watch: Watch, *, plays: bool = True) -> None:
        """Create the actors, none unless `plays`."""
        self._config, self._watch = config, watch
        names = [str(section["name"]) for section in config.rewards] if plays else []
        self.remotes = [self._remote(names, index) for index in range(len(names))]
        self._start: Start | None = None
        self._checkpoint: Path | None = None
        self._beginning: dict[str, asyncio.Task[None]] = {}
        self.trouble = ""  # why a scorer could not begin again

    @property
    def actors(self) -> dict[str, Any]:
        """The handles by name."""
        return {remote.name: remote.actor for remote in self.remotes}

    async def begin(self, start: Start, checkpoint: Path | None) -> None:
        """Have the scorers begin that need it, and go on from a checkpoint; UserError if it holds those of others."""
        await asyncio.gather(*(self._described(remote) for remote in self.remotes))
        self._check_folders(checkpoint)
        self._start, self._checkpoint = start, checkpoint
        await asyncio.gather(*(self._begin(remote) for remote in self.remotes if remote.needs_start))

    async def update(self, groups: Sequence[Group], key: int) -> dict[str, float]:
        """Let every scorer that learns do so, once a key, and return the metrics of all; a failure is counted."""
        fresh = [group for group in groups if not group.is_rest]
        shared = ray.put(fresh) if self._trainable else None
        parts = await asyncio.gather(*(self._update(remote, shared, key) for remote in self.remotes))
        return {name: value for part in parts for name, value in part.items()}

    def account(self, groups: Sequence[Group]) -> tuple[dict[str, float], str]:
        """Return the masked shares of the groups of an update, and what is wrong if they are too much, else ""."""
        shares, problem, limit = {}, "", self._config.scoring.max_masked
        for remote in self.remotes:
            count = remote.tally.take(groups)
            remote.failures += count.failures
            shares[f"reward/{remote.label}/masked_share"] = count.masked_share
            if count.failed_share > limit and not problem:
                problem = (
                    f"{remote.name}: {count.failed_share:.0%} of its {count.num_scores} scores of this update are"
                    f" masked by failures, and scoring.max_masked={limit:g}; most often: {count.usual_cause};"
                    " the updates before are saved: mend the scorer, then resume=true"
                )
        return shares, problem

    def take_failures(self) -> list[Failure]:
        """Return the scorers' failures since the last call: one for each group and cause, and for each update."""
        failures = [failure for remote in self.remotes for failure in remote.failures]
        for remote in self.remotes:
            remote.failures = []
        return failures

    async def save(self, folder: Path) -> None:
        """Write the states of the scorers that learn into a checkpoint's folder; InfraError if one stays away."""
        await asyncio.gather(*(self._save(remote, folder / FOLDER / remote.folder) for remote in self._trainable))

    def saved(self, checkpoint: Path) -> None:
        """Take note of the newest complete checkpoint: an actor that is started again goes on from it."""
        self._checkpoint = checkpoint

    async def look(self) -> None:
        """Replace what hangs or is broken, and have a scorer that lost its weights begin again."""
        await asyncio.gather(*(self._look_at(remote) for remote in self.remotes))

    async def close(self) -> None:
        """Stop waiting for those that begin again, and let the scorers give back what they hold, for `CLOSE_S`."""
        for task in self._beginning.values():
            task.cancel()
        await asyncio.gather(*self._beginning.values(), return_exceptions=True)
        closing = (remote.call("shutdown", limit_s=CLOSE_S) for remote in self.remotes if remote.has_answered)
        await asyncio.gather(*closing, return_exceptions=True)

    @property
    def _trainable(self) -> list[RemoteScorer]:
        return [remote for remote in self.remotes if remote.is_trainable]

    def _remote(self, names: Sequence[str], index: int) -> RemoteScorer:
        config, name = self._config, f"reward:{names[index]}:{index}"
        actor = actor_class(RewardActor, name).remote(
            name=name,
            scorer=dict(config.rewards[index]),
            timeout_s=config.timeouts.score_s,
            scoring=config.scoring,
            start_s=config.timeouts.start_s,
            update_s=config.timeouts.update_s,
            sandboxes=pool_names(config.sandbox),
        )
        is_only_one = names.count(names[index]) == 1
        return RemoteScorer(actor, config, index, names[index] if is_only_one else f"{names[index]}_{index}")

    async def _described(self, remote: RemoteScorer) -> None:
        status = await remote.call("status", limit_s=self._config.timeouts.start_s)
        remote.describe(status)

    def _check_folders(self, checkpoint: Path | None) -> None:
        """UserError if a scorer would begin anew although the checkpoint holds one of its name at another place."""
        if checkpoint is None:
            return
        held = {path.name for path in (checkpoint / FOLDER).glob("*")}
        for remote in self._trainable:
            others = sorted(name for name in held if name.partition("-")[2] == remote.folder.partition("-")[2])
            if remote.folder not in held and others:
                problem = f"{checkpoint} holds {', '.join(others)} and no {remote.folder}"
                remedy = "list the scorers in the order in which the run began"
                raise UserError("rewards", remote.folder, problem, remedy)

    async def _begin(self, remote: RemoteScorer) -> None:
        folder = self._checkpoint / FOLDER / remote.folder if self._checkpoint is not None else None
        state = str(folder.resolve()) if folder is not None and folder.is_dir() else None
        self._watch.expect_start(remote.name)
        await remote.call("begin", self._start, state, limit_s=2 * self._config.timeouts.start_s)

    async def _update(self, remote: RemoteScorer, groups: Any, key: int) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if remote.is_trainable:
            try:
                limit_s = self._config.timeouts.update_s + self._config.timeouts.score_s
                found = await remote.call("update", groups, key, limit_s=limit_s)
                metrics = {f"reward/{remote.label}/{name}": value for name, value in found.items()}
            except TurnwiseError as error:
                remote.num_failed_updates += 1
                remote.failures.append(failure_of(JudgeError(str(error)), "update"))
            metrics[f"reward/{remote.label}/failed_updates"] = float(remote.num_failed_updates)
        status = await remote.look()
        return metrics | (remote.metrics(status) if status else {})

    async def _save(self, remote: RemoteScorer, folder: Path) -> None:
        limit_s = self._config.timeouts.update_s
        try:
            await remote.call("save", str(folder.resolve()), limit_s=limit_s)
        except InfraError:
            if not await remote.is_back():
                raise
            await remote.call("save", str(folder.resolve()), limit_s=limit_s)

    async def _look_at(self, remote: RemoteScorer) -> None:
        status = await remote.look()
        if self._watch.is_hung(remote.name, status) or (status and status["is_broken"]):
            self._watch.replace(remote.name, remote.actor)
        elif status and not status["is_ready"] and self._start is not None:
            running = self._beginning.get(remote.name)
            if running is None or running.done():
                self._beginning[remote.name] = asyncio.create_task(self._begin_again(remote))

    async def _begin_again(self, remote: RemoteScorer) -> None:
        try:
            await self._begin(remote)
            self.trouble = ""
        except TurnwiseError as error:  # tried again at the next look; said if the run stalls meanwhile
            self.trouble = str(error)
