"""`turnwise env demonstrate`: an environment's own demonstrator plays, and what went well is written to a file.

Episodes are written as they end, so an interrupt loses none. With one seed, tasks and actions are those that the warm
start of a run with that seed would record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from turnwise.cli.counting import counting
from turnwise.demonstration_files import append
from turnwise.demonstrations import SEED_OFFSET, Demonstration, NoDemonstrator, no_demonstrator, record
from turnwise.env.base import TurnEnv
from turnwise.errors import BoundaryError, UserError
from turnwise.records import Task
from turnwise.tasks import TaskSet, make_env, world_of

FIELD = "--output"


class Tally:
    """Where the episodes went; those that were good enough went into `file`."""

    def __init__(self, file: Path, min_outcome: float) -> None:
        """Nothing is written yet."""
        self.num_kept = self.num_actions = self.num_below = self.num_undemonstrated = 0
        self.failed: list[BoundaryError] = []
        self._file, self._min_outcome = file, min_outcome

    def take(self, demonstration: Demonstration) -> None:
        """Write an episode, or count it as not good enough."""
        if demonstration.outcome < self._min_outcome:
            self.num_below += 1
            return
        append(self._file, demonstration, FIELD)
        self.num_kept += 1
        self.num_actions += sum(message["role"] == "assistant" for message in demonstration.messages)

    def leave_out(self, error: BoundaryError | NoDemonstrator) -> None:
        """Count an episode that there is not."""
        if isinstance(error, NoDemonstrator):
            self.num_undemonstrated += 1
        else:
            self.failed.append(error)

    def lines(self) -> list[str]:
        """Return what to say at the end, of any episodes."""
        total = self.num_kept + self.num_below + self.num_undemonstrated + len(self.failed)
        where = f"{self.num_actions} actions, in {self._file}" if self.num_kept else "so there is no file"
        said = [f"kept {self.num_kept} of {total} episodes, {where}"] if total else []
        said += [f"left out: {self.num_below} with an outcome below {self._min_outcome:g}"] if self.num_below else []
        said += [f"left out: {self.num_undemonstrated} without a demonstrator"] if self.num_undemonstrated else []
        said += [f"left out: {len(self.failed)} that failed, the first: {self.failed[0]}"] if self.failed else []
        return said


def demonstrate(
    env_id: str,
    kwargs: Mapping[str, Any],
    console: Console,
    *,
    file: Path,
    episodes: int,
    split: str,
    min_outcome: float,
    seed: int,
) -> bool:
    """Play tasks of a split and write those of at least `min_outcome`; return whether there are any."""
    if math.isnan(min_outcome):
        raise UserError("--min-outcome", min_outcome, "is no number", "give a number, such as 1.0")
    if file.exists() or not file.parent.is_dir():
        problem = "is there already" if file.exists() else f"there is no folder {file.parent}"
        raise UserError(FIELD, file, problem, "name a new file in a folder that is there")
    tasks, env = TaskSet.of(env_id, kwargs, split, seed + SEED_OFFSET), make_env(env_id, kwargs)
    tally = Tally(file, min_outcome)
    try:
        if type(world_of(env)).demonstrate is TurnEnv.demonstrate:
            raise no_demonstrator(env_id)
        with counting("episodes", episodes) as advance:
            for demonstration in record(env, _drawn(tasks, episodes, advance), seed, tally.leave_out):
                tally.take(demonstration)
    finally:
        env.close()
        for line in tally.lines():
            console.print(line, markup=False, soft_wrap=True)
    return tally.num_kept > 0


def _drawn(tasks: TaskSet, count: int, after_each: Callable[[], None]) -> Iterator[Task]:
    for index in range(count):
        yield tasks.task(index)
        after_each()
