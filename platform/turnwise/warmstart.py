"""The supervised warm start of a run: record and read demonstrations, let the learner imitate them, save the model.

`turnwise train` does it before the first update where `sft.steps` asks for it; `turnwise sft` does nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from turnwise.agent import Agent
from turnwise.config.schema import RunConfig
from turnwise.deadline import each_within
from turnwise.demonstration_files import read_for
from turnwise.demonstrations import SEED_OFFSET, Demonstration, NoDemonstrator, record
from turnwise.errors import BoundaryError, InfraError
from turnwise.fleet import RemoteLearner
from turnwise.learner.sft import token_rows
from turnwise.monitor.metrics import MetricsLog
from turnwise.rollout.actor import load_agent
from turnwise.run_folder import RunFolder, new_folder
from turnwise.tasks import TaskSet, make_env

CHUNK = 10
"""Steps in one call of the learner; the display moves in between."""


async def warm_start(
    config: RunConfig,
    model_path: Path,
    folder: RunFolder,
    learner: RemoteLearner,
    log: MetricsLog,
    say: Callable[[str], None],
) -> None:
    """Train the learner on demonstrations and save the model in the run folder; UserError if there are none."""
    say("warm start: collecting demonstrations")
    stopped = threading.Event()
    try:
        rows = await asyncio.to_thread(
            lambda: token_rows(demonstrations(config, say, stopped), agent_of(config, model_path))
        )
    finally:
        stopped.set()  # who is cancelled waits for the thread at the end
    for first in range(0, config.sft.steps, CHUNK):
        last = min(first + CHUNK, config.sft.steps)
        losses = await learner.call("sft", rows, config.sft, config.seed, first, last, first)
        for step, loss in enumerate(losses, start=first + 1):
            log.log(0, {"sft/step": step, "sft/loss": loss})
        say(f"warm start: step {last}/{config.sft.steps}  loss {losses[-1]:.3f}")
    with new_folder(folder.warmstart) as temporary:
        await learner.save(temporary)


def demonstrations(
    config: RunConfig, say: Callable[[str], None], stopped: threading.Event | None = None
) -> list[Demonstration]:
    """Return the demonstrations that are recorded, then those of the files in their order; UserError.

    Once `stopped` is set, recording ends.
    """
    given, warnings = read_for(config)
    for warning in warnings:
        say(f"warm start: {warning}")
    recorded = _recorded(config, say, stopped or threading.Event()) if config.sft.demonstrations else []
    say(f"warm start: {len(recorded)} demonstrations recorded, {len(given)} from files")
    return [*recorded, *given]


def _recorded(config: RunConfig, say: Callable[[str], None], stopped: threading.Event) -> list[Demonstration]:
    """Return what the environment's own demonstrator does; UserError if it has none.

    Episodes that fail are left out and told; if most do, the first failure is raised. Once `stopped` is set, no further
    one is begun.
    """
    kwargs, count = {**config.env.kwargs, **config.sft.env_kwargs}, config.sft.demonstrations or 0
    tasks = TaskSet.of(config.env.id, kwargs, "train", config.seed + SEED_OFFSET)
    env = make_env(config.env.id, kwargs)
    limit_s = config.timeouts.episode_s
    late = lambda: InfraError(f"a demonstration of {config.env.id} took longer than timeouts.episode_s={limit_s:g}")  # noqa: E731
    failed: list[BoundaryError] = []

    def leave_out(error: BoundaryError | NoDemonstrator) -> None:
        if isinstance(error, NoDemonstrator):
            raise error
        failed.append(error)

    try:
        wanted = (tasks.task(index) for index in range(count) if not stopped.is_set())
        found = list(each_within(limit_s, record(env, wanted, config.seed, leave_out), late))
    finally:
        env.close()
    if len(failed) > len(found):
        raise failed[0]
    if failed:
        say(f"warm start: {len(failed)} of {count} demonstrations left out, the first: {failed[0]}")
    return found


def agent_of(config: RunConfig, model_path: Path) -> Agent:
    """Return the run's agent, as rollout workers build it."""
    return load_agent(config.agent, str(model_path))
