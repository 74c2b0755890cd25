"""One training run: its parts, in the order in which they come to life.

`turnwise.train` owns a `Run`. The loop itself is the controller's; here is what stands around it: warm start or resume,
the first measurement, the display, the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from turnwise.config import Loaded
from turnwise.controller import Controller, Progress
from turnwise.credit.select import Selector
from turnwise.curriculum import Curriculum
from turnwise.dispatch import Dispatcher
from turnwise.errors import MaskedError
from turnwise.fleet import Fleet
from turnwise.keeper import Keeper, Saved, load_saved
from turnwise.models import resolve_model
from turnwise.monitor.curve import draw_curve
from turnwise.monitor.metrics import MetricsLog, Sink, read_metrics
from turnwise.monitor.names import REWARD, STALENESS, SUCCESS
from turnwise.monitor.progress import Progress as Display
from turnwise.monitor.progress import Snapshot
from turnwise.monitor.ray_metrics import RaySink
from turnwise.monitor.sinks import TensorBoardSink, WandbSink
from turnwise.monitor.summary import RunResult, summarise
from turnwise.monitor.timing import StageClock
from turnwise.records import Failure
from turnwise.reward import Start
from turnwise.run_folder import RunFolder, write_json_atomically
from turnwise.stream import GroupStream
from turnwise.stream_state import StreamState
from turnwise.tasks import TaskSet
from turnwise.warmstart import warm_start

POLL_S = 0.5
"""Seconds between two looks at the workers for the display."""


class Run:
    """Builds the parts, runs the controller, writes the summary."""

    def __init__(self, loaded: Loaded, folder: RunFolder, display: Display) -> None:
        """`folder` is locked by this process; nothing is started yet."""
        self._loaded, self._config, self._folder, self._display = loaded, loaded.config, folder, display
        self._started = time.monotonic()
        self._saved = self._last_saved()
        self._progress = self._saved.progress if self._saved else Progress()
        self._note = "starting"
        self._clock = StageClock()
        self._phases: Counter[str] = Counter()
        self._fleet: Fleet | None = None
        self._stream: GroupStream | None = None
        self._keeper: Keeper | None = None
        self._log: MetricsLog | None = None
        self._controller: Controller | None = None
        self._watching: asyncio.Task[None] | None = None
        self.is_finished = False

    async def start(self) -> None:
        """Start the actors, bring the weights where they have to be, and build the loop's parts."""
        config, model = self._config, self._model_path()
        if config.resume:
            self._folder.truncate_metrics(self._progress.update if self._saved else -1)
        self._log = MetricsLog(self._folder.metrics, self._sinks())
        self._fleet = Fleet(config, model, self._folder.path)
        self._watching = asyncio.create_task(self._watch())
        self._say("starting actors")
        await self._fleet.start()
        await self._cut_back(self._fleet)
        if self._saved is not None:
            await self._fleet.learner.call("load", str(self._folder.checkpoint(self._progress.update)))
        elif config.sft.steps and not self._folder.warmstart.is_dir():
            await warm_start(config, model, self._folder, self._fleet.learner, self._log, self._say)
        self._say("starting scorers")
        await asyncio.gather(self._fleet.publish(), self._begin_scorers(self._fleet))
        self._assemble(self._fleet, self._log)

    async def work(self) -> None:
        """Measure, do the updates, measure again, and leave a checkpoint."""
        assert self._keeper is not None
        assert self._controller is not None
        if self._saved is None:
            self._say("measuring before training")
            await self._keeper.measure(0)
        self._note = ""
        try:
            self.is_finished = await self._controller.run()
        except MaskedError:
            await self._save(self._keeper)
            raise
        if not self.is_finished:
            await self._save(self._keeper)

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Answer a signal: the first ends the loop before its next update; a second, or one before the loop, all."""
        if self._controller is None or self._note:
            task.cancel()
        else:
            self._say("stopping after this update, with a checkpoint")
            self._controller.stop()

    async def close(self, status: str, error: str) -> dict[str, Any]:
        """End everything and write curve and summary; return the summary."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._stream is not None:
            await self._stream.close()
        if self._fleet is not None:
            await self._fleet.close()
        if self._log is not None:
            self._log.close()
        draw_curve(read_metrics(self._folder.metrics), self._folder.curve, self._config.name)
        summary = summarise(self._result(status, error))
        write_json_atomically(self._folder.summary, summary)
        return summary

    async def _save(self, keeper: Keeper) -> None:
        if self._folder.latest() != self._progress.update:
            await keeper.save(self._progress.update)

    def _last_saved(self) -> Saved | None:
        latest = self._folder.latest() if self._config.resume else None
        return load_saved(self._folder.checkpoint(latest)) if latest is not None else None

    def _model_path(self) -> Path:
        """Return the model that learner and engines begin with; a resumed run's warm start is not done again."""
        if self._config.sft.steps and self._folder.warmstart.is_dir():
            return self._folder.warmstart
        return resolve_model(self._config.model.path)

    async def _begin_scorers(self, fleet: Fleet) -> None:
        """Tell the scorers that learn which model the run begins with, and where the one that it goes on from lies."""
        config = self._config
        start = Start(
            model_path=self._model_path().resolve(),
            dtype=config.model.dtype,
            seed=config.seed,
            updates=config.learner.updates,
            is_synchronous=config.rollout.max_staleness == 0,
        )
        await fleet.scorers.begin(start, self._folder.checkpoint(self._progress.update) if self._saved else None)

    async def _cut_back(self, fleet: Fleet) -> None:
        """Drop what was stored after the checkpoint that the run goes on from."""
        if self._config.resume:
            await fleet.store.truncate_after(self._progress.update if self._saved else -1)

    def _assemble(self, fleet: Fleet, log: MetricsLog) -> None:
        config, saved = self._config, self._saved
        state = saved.stream if saved else StreamState()
        dispatcher = Dispatcher(fleet.players, config.rollout.max_attempts, self._count_failure)
        self._stream = GroupStream(
            self._training_tasks(state),
            dispatcher,
            fleet.scorers.remotes,
            config.rollout,
            seed=config.seed,
            stall_s=config.timeouts.stall_s,
            describe=self._waited_for,
            selector=Selector.of(config.credit),
            state=state,
            pending=saved.pending if saved else (),
            clock=self._clock,
        )
        self._keeper = Keeper(
            config,
            self._folder,
            store=fleet.store,
            learner=fleet.learner,
            scorers=fleet.scorers,
            dispatcher=dispatcher,
            heldout_tasks=TaskSet.of(config.env.id, config.env.kwargs, "eval", config.seed)
            if config.eval.tasks
            else None,
            stream=self._stream,
            progress=self._progress,
            log=log,
            heldout=saved.heldout if saved else (),
        )
        self._controller = Controller(
            config,
            self._stream,
            fleet.learner,
            fleet,
            fleet.scorers,
            self._keeper,
            log,
            self._progress,
            self._clock,
            gauges=fleet.sandboxes.metrics,
            on_failure=self._count_failure,
        )

    def _tasks(self, split: str) -> TaskSet:
        return TaskSet.of(self._config.env.id, self._config.env.kwargs, split, self._config.seed)

    def _training_tasks(self, state: StreamState) -> TaskSet | Curriculum:
        tasks, pool = self._tasks("train"), self._config.rollout.curriculum
        success = (self._config.eval.success_channel, self._config.eval.success_threshold)
        return Curriculum(tasks, pool, state.curriculum, success=success) if pool else tasks

    def _sinks(self) -> list[Sink]:
        config, sinks = self._config, list[Sink]([RaySink(self._config.name)])
        if config.log.tensorboard:
            sinks.append(TensorBoardSink(self._folder.tensorboard, self._progress.update + 1))
        if config.log.wandb:
            sinks.append(WandbSink(self._folder.path, config.log.wandb_project, config.name, self._plain_config()))
        return sinks

    def _plain_config(self) -> dict[str, Any]:
        return dict(OmegaConf.to_container(OmegaConf.load(self._folder.config), resolve=False))  # type: ignore[arg-type]

    def _count_failure(self, failure: Failure) -> None:
        """Count a failure; the first of its label in this run is told with its cause."""
        if self._progress.count(failure):
            self._display.note(f"first failure {failure.label}: {failure.cause}")

    def _say(self, note: str) -> None:
        self._note = note
        self._display.note(note)

    def _waited_for(self) -> str:
        phases = [f"{count} episodes in {phase}" for phase, count in self._phases.items() if count]
        troubles = [self._fleet.trouble] if self._fleet is not None and self._fleet.trouble else []
        return "; ".join([", ".join(phases) or "workers", *troubles])

    async def _watch(self) -> None:
        """Show where the run stands, again and again."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._fleet is not None and self._controller is not None:
                self._phases = await self._fleet.phases()
            self._display.update(self._snapshot())

    def _snapshot(self) -> Snapshot:
        controller, last = self._controller, self._controller.last if self._controller else {}
        running = ", ".join(controller.clock.running) if controller else ""
        return Snapshot(
            run=self._config.name,
            update=controller.last_update if controller else self._progress.update,
            total_updates=self._config.learner.updates,
            stage=self._note or running,
            phases=self._phases,
            episodes=sum(len(group.trajectories) for group in self._stream.ready) if self._stream else 0,
            episodes_needed=self._config.rollout.groups_per_update * self._config.rollout.group_size,
            reward=last.get(REWARD),
            success=last.get(SUCCESS),
            staleness=last.get(STALENESS),
            tokens_per_s=last.get("speed/tokens_per_s"),
            episodes_per_s=last.get("speed/episodes_per_s"),
            failures=self._progress.failures,
            elapsed_s=time.monotonic() - self._started,
        )

    def _result(self, status: str, error: str) -> RunResult:
        return RunResult(
            run=self._config.name,
            status=status,
            seed=self._config.seed,
            config=self._plain_config(),
            updates=self._progress.update,
            episodes=self._progress.num_episodes,
            wall_s=time.monotonic() - self._started,
            stages_s=self._controller.clock.totals() if self._controller else {},
            failures=self._progress.failures,
            heldout=self._keeper.heldout if self._keeper else (),
            checkpoints=[
                f"checkpoints/{self._folder.checkpoint(update).name}" for update in self._folder.saved_updates()
            ],
            error=error,
        )
