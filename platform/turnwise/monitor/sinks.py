"""TensorBoard and Weights & Biases as sinks of `MetricsLog`. Their packages are imported when a sink is made."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnwise.errors import UserError


class TensorBoardSink:
    """Writes event files with TensorBoard's own writer (no torch, no TensorFlow)."""

    def __init__(self, folder: Path, first_update: int = 0) -> None:
        """Open a new event file; what earlier files say of `first_update` and later is marked as void (resume)."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))
        start = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=first_update, session_log=start))

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Write one event with all values, and flush."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        event = self._event(wall_time=time.time(), step=update, summary=self._summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbSink:
    """Logs to Weights & Biases; with the environment variable WANDB_MODE=offline, into the run folder only."""

    def __init__(self, folder: Path, project: str, name: str, config: Mapping[str, Any]) -> None:
        """Begin the run, or go on with the one whose id stands in `folder/wandb_id`.

        `config` must have its secrets masked. UserError if the package is missing.
        """
        wandb = _import_wandb()
        self._run = wandb.init(
            project=project, name=name, id=_run_id(folder), resume="allow", dir=str(folder), config=dict(config)
        )
        self._run.define_metric("*", step_metric="update")

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Log the values at this update."""
        self._run.log({"update": update, **metrics})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        remedy = 'pip install "turnwise[wandb]" or set log.wandb=false'
        raise UserError("log.wandb", True, "the package wandb is not installed", remedy) from error


def _run_id(folder: Path) -> str:
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(f"{uuid.uuid4().hex[:12]}\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
