"""The stream of scored groups: keeps as many episodes running as staleness allows and gives out whole, fresh groups.

The controller calls `take` once an update. Group number g is always the same task with the same seeds, so the state to
be saved is a few numbers: what was started, what is not finished, what is finished and not trained on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Protocol

from turnwise.config.schema import RolloutConfig
from turnwise.credit.select import Selector
from turnwise.curriculum import Curriculum
from turnwise.dispatch import Dispatcher
from turnwise.errors import StalledError
from turnwise.monitor.timing import StageClock
from turnwise.records import Failure, Group, Score, Trajectory
from turnwise.replay import ReplayBuffer, batches_ahead
from turnwise.rollout.episode import EpisodeSpec, group_specs
from turnwise.rollout.guided import with_guided
from turnwise.stream_state import StreamState
from turnwise.tasks import TaskSet

MAX_STALE_BATCHES = 8
"""Batches of groups in a row that may come too late before the run ends with an error."""

MAX_DROPPED_BATCHES = 6
"""Batches of groups in a row that may fall short of complete episodes before the run ends with an error."""

PAUSE_S = 0.5
"""Pause before a group that fell short is replaced; doubled with every batch as long as no group succeeds."""


STALE_REST = "stale_rest"
"""Name under which episodes are counted that became too old while they waited for a compensation batch."""


class GroupScorer(Protocol):
    """A reward actor as the stream sees it; never raises, masks instead."""

    async def score(self, group: Group) -> Sequence[Score]:
        """Return the scores of a group's trajectories."""


class GroupStream:
    """Starts groups, collects their episodes, has them scored."""

    def __init__(
        self,
        tasks: TaskSet | Curriculum,
        dispatcher: Dispatcher,
        scorers: Sequence[GroupScorer],
        config: RolloutConfig,
        *,
        seed: int,
        stall_s: float,
        describe: Callable[[], str],
        selector: Selector | None = None,
        state: StreamState | None = None,
        pending: Sequence[Group] = (),
        clock: StageClock | None = None,
    ) -> None:
        """`describe` says what is being waited for when nothing moves; `state` and `pending` come from a checkpoint.

        `clock` counts as `score` the time in which `take` waits for nothing but scores.
        """
        self._tasks, self._dispatcher, self._scorers, self._config = tasks, dispatcher, tuple(scorers), config
        self._seed, self._stall_s, self._describe = seed, stall_s, describe
        self.state = state or StreamState()
        self._restart = list(self.state.unfinished)
        self._selector = selector or Selector()
        self._ready: list[Group] = [group for group in pending if not group.is_rest]
        rests = [group for group in pending if group.is_rest]
        self._replay = ReplayBuffer(self._selector.delay, rests, self.state.num_waiting_batches)
        self._ahead = batches_ahead(config.max_staleness, self._selector.delay)
        self._num_scored, self._num_empty = 0, Counter[str]()  # groups since the last batch: all, and those left out
        self._failed: list[Trajectory] = []
        self._waves: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._last_move = time.monotonic()
        self._error: BaseException | None = None
        self._num_dropped_in_a_row = 0
        self._num_scoring = 0  # groups whose episodes are over and whose scores are not there
        self._clock = clock or StageClock()
        self.num_episodes = 0  # complete episodes so far

    @property
    def ready(self) -> tuple[Group, ...]:
        """Scored groups that nobody has taken."""
        return tuple(self._ready)

    @property
    def pending(self) -> tuple[Group, ...]:
        """All that is scored and has still to be trained on: what a checkpoint must hold beside the state."""
        return (*self._ready, *self._replay.groups)

    @property
    def curriculum(self) -> Curriculum | None:
        """Where the tasks come from, if it is a curriculum."""
        return self._tasks if isinstance(self._tasks, Curriculum) else None

    @property
    def num_buffered(self) -> int:
        """Episodes that wait for their compensation batch."""
        return sum(group.num_wanted for group in self._replay.groups)

    @property
    def num_running(self) -> int:
        """Groups that are started and not ready."""
        return len(self.state.unfinished) - len(self._restart)

    async def take(self, version: int) -> list[Group]:
        """Return one batch of groups, none older than `max_staleness` updates; StalledError if nothing moves."""
        wanted, before = self._config.groups_per_update, self.state.num_stale
        self._last_move = time.monotonic()
        while True:
            self._drop_stale(version)
            if self.state.num_stale - before > MAX_STALE_BATCHES * wanted:
                raise StalledError(
                    f"every group is older than rollout.max_staleness={self._config.max_staleness} allows"
                )
            if rests := self._replay.take():
                return self._given_out(rests)
            self._admit()
            if len(self._ready) >= wanted:
                break
            self._check_selected()
            await self._wait()
        if self._ahead == 0:
            self._ready.sort(key=lambda group: group.group_id)
        batch, self._ready = self._ready[:wanted], self._ready[wanted:]
        self._replay.put(batch)
        self._num_scored, self._num_empty = 0, Counter()
        if self.curriculum is not None:
            self.curriculum.settle(min(self.state.unfinished, default=self.state.next_group))
        return self._given_out(batch)

    def give_back(self, groups: Sequence[Group]) -> None:
        """Take back the last groups that `take` returned, if nobody trained on them."""
        self._replay.undo(groups)
        self._ready = [*(group for group in groups if not group.is_rest), *self._ready]
        self.state.num_waiting_batches = self._replay.num_batches

    def take_failed(self) -> list[Trajectory]:
        """Return the episodes that ended in a failure since the last call; they are kept to be looked at only."""
        failed, self._failed = self._failed, []
        return failed

    async def close(self) -> None:
        """Stop waiting for what is running."""
        for wave in list(self._waves):
            wave.cancel()
        await asyncio.gather(*self._waves, return_exceptions=True)

    def _given_out(self, batch: list[Group]) -> list[Group]:
        self.state.num_waiting_batches = self._replay.num_batches
        return batch

    def _drop_stale(self, version: int) -> None:
        """Enforce the bound: a group with an older token than allowed is left out and replaced by a new one.

        A rest that has become too old is left out too, and its episodes counted.
        """
        oldest = version - self._config.max_staleness
        fresh = [group for group in self._ready if _oldest_version(group) >= oldest]
        self.state.num_stale += len(self._ready) - len(fresh)
        self._ready = fresh
        before = self.num_buffered
        self._replay.groups = [group for group in self._replay.groups if _oldest_version(group) >= oldest]
        self._leave_out({STALE_REST: before - self.num_buffered})

    def _leave_out(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            if count:
                self.state.left_out[name] = self.state.left_out.get(name, 0) + count

    def _check_selected(self) -> None:
        """Raise StalledError when the selections leave too little for a batch; the message names key and shares."""
        limit, wanted = self._selector.max_batches, self._config.groups_per_update
        num_empty = self._num_empty.total()
        if not num_empty or self._num_scored < limit * wanted:
            return
        shares = ", ".join(f"{name} {count / self._num_scored:.0%}" for name, count in self._num_empty.most_common())
        raise StalledError(
            f"credit.max_batches={limit}: of {self._num_scored} groups scored for one batch of {wanted},"
            f" {num_empty} were left out whole ({shares}); use easier or harder tasks, or raise it"
        )

    def _admit(self) -> None:
        """Start groups until so many batches run or wait that the last of them is trained on in time.

        `max_staleness + 1`, or fewer where rests of batches have to be trained on in time too.
        """
        outstanding = self.num_running + len(self._ready)
        room = (self._ahead + 1) * self._config.groups_per_update - outstanding
        numbers = [self._next_number() for _ in range(max(0, room))]
        if numbers:
            wave = asyncio.create_task(self._play(numbers))
            self._waves.add(wave)
            wave.add_done_callback(self._wave_ended)

    def _next_number(self) -> int:
        if self._restart:
            return self._restart.pop(0)
        number = self.state.next_group
        self.state.next_group += 1
        self.state.unfinished.append(number)
        return number

    async def _play(self, numbers: Sequence[int]) -> None:
        specs = [spec for number in numbers for spec in self._specs(number)]
        members: dict[str, list[Trajectory]] = {spec.group_id: [] for spec in specs}
        scoring: list[asyncio.Task[None]] = []
        async for trajectory in self._dispatcher.play(specs):
            if trajectory.end.is_complete:
                self._move()
            group = members[trajectory.group_id]
            group.append(trajectory)
            if len(group) == self._config.group_size + sum(member.is_followed for member in group):
                scoring.append(asyncio.create_task(self._finish(group)))
        await asyncio.gather(*scoring)

    def _specs(self, number: int) -> list[EpisodeSpec]:
        """Return the episodes of a group, of the update that it would be in if nothing were ever left out."""
        config = self._config
        specs = group_specs(self._tasks.task(number), number, config.group_size, self._seed)
        if not config.guided.share:
            return specs
        update = number // config.groups_per_update
        return with_guided(specs, config.guided, number=number, seed=self._seed, update=update)

    async def _finish(self, members: Sequence[Trajectory]) -> None:
        complete = tuple(sorted((t for t in members if t.end.is_complete), key=lambda t: t.index))
        failed = [t for t in members if t.failure is not None]
        failures = tuple(t.failure for t in failed if t.failure is not None)
        self._failed.extend(failed)
        first = members[0]
        group = Group(group_id=first.group_id, task=first.task, trajectories=complete, failures=failures)
        self.num_episodes += len(complete)
        if sum(not member.is_guided for member in complete) >= self._config.min_group_size:
            parts = await self._scored(group)
            self._select(replace(group, scores=tuple(score for part in parts for score in part)))
            self._num_dropped_in_a_row = 0
            self._move()
        else:
            await self._drop(failures)
        self.state.unfinished.remove(int(first.group_id))
        self._changed.set()

    async def _scored(self, group: Group) -> list[Sequence[Score]]:
        """Return what each scorer says of a group."""
        self._num_scoring += 1
        self._changed.set()  # whoever waits for episodes may be waiting for scores from now on
        try:
            return await asyncio.gather(*(scorer.score(group) for scorer in self._scorers))
        finally:
            self._num_scoring -= 1

    def _select(self, group: Group) -> None:
        """Have a scored group ready to be taken, or what the selections leave of it, and count."""
        if self.curriculum is not None:
            self.curriculum.record(group)
        selected = self._selector.select(group)
        self._num_scored += 1
        self._leave_out(selected.left_out)
        if selected.group is not None:
            self.state.num_kept += selected.group.num_wanted
            self._ready.append(selected.group)
        else:
            self._num_empty[selected.last] += 1

    async def _drop(self, failures: Sequence[Failure]) -> None:
        """Count a group that fell short; StalledError naming the cause when there are too many in a row."""
        self.state.num_dropped += 1
        self._num_dropped_in_a_row += 1
        limit = MAX_DROPPED_BATCHES * self._config.groups_per_update
        if self._num_dropped_in_a_row >= limit:
            last = failures[-1]
            raise StalledError(f"{limit} groups in a row failed; the last one by {last.label} ({last.cause})")
        await asyncio.sleep(PAUSE_S * 2.0 ** (self._num_dropped_in_a_row // self._config.groups_per_update))

    async def _wait(self) -> None:
        self._changed.clear()
        left_s = self._last_move + self._stall_s - time.monotonic()
        try:
            with self._clock("score") if self._waits_for_scores() else nullcontext():
                async with asyncio.timeout(max(0.0, left_s)):
                    await self._changed.wait()
        except TimeoutError:
            raise StalledError(f"no episode or score for {self._stall_s:g} s; waiting for {self._describe()}") from None
        if self._error is not None:
            raise self._error

    def _waits_for_scores(self) -> bool:
        """Whether the episodes of a whole batch are over, so that only scores are missing."""
        return bool(self._num_scoring) and len(self._ready) + self._num_scoring >= self._config.groups_per_update

    def _move(self) -> None:
        self._last_move = time.monotonic()
        self._changed.set()

    def _wave_ended(self, wave: asyncio.Task[None]) -> None:
        self._waves.discard(wave)
        if not wave.cancelled() and wave.exception() is not None:
            self._error = wave.exception()
            self._changed.set()


def _oldest_version(group: Group) -> int:
    """Return the oldest version among the tokens that are in the loss now."""
    return min((t.oldest_version for t in group.trained_now if t.num_action_tokens), default=0)
