"""`turnwise train` and `turnwise sft`: put the parts of a run together, run it, and write down how it ended.

Called by the command line and by Python users. Whatever happens, the actors are gone when these functions return, and a
run folder that was begun holds a `summary.json` that says how it ended.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnwise.cluster import connect
from turnwise.config import Loaded, masked_yaml
from turnwise.errors import TurnwiseError
from turnwise.fleet import Fleet
from turnwise.models import resolve_model
from turnwise.monitor.metrics import MetricsLog
from turnwise.monitor.progress import Progress as Display
from turnwise.preflight import check
from turnwise.run import Run
from turnwise.run_folder import RunFolder
from turnwise.store.atomic import write_bytes_atomically
from turnwise.warmstart import warm_start as do_warm_start

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def train(loaded: Loaded) -> dict[str, Any]:
    """Train as configured and return the summary; UserError before anything starts if something is wrong."""
    with _prepared(loaded) as (folder, display):
        return asyncio.run(_train(loaded, folder, display))


def warm_start(loaded: Loaded) -> Path:
    """Do the supervised warm start alone and return the folder of its model."""
    with _prepared(loaded) as (folder, display):
        return asyncio.run(_warm_start(loaded, folder, display))


@contextmanager
def _prepared(loaded: Loaded) -> Iterator[tuple[RunFolder, Display]]:
    """Check everything, take the run folder, connect to Ray; give all of it back at the end."""
    check(loaded)
    config = loaded.config
    with RunFolder.create(config.runs_dir, config.name, config.resume) as folder:
        write_bytes_atomically(_config_file(folder), masked_yaml(loaded).encode())
        with connect(config.ray, has_answered=True), Display(is_quiet=not config.log.progress) as display:
            yield folder, display


async def _train(loaded: Loaded, folder: RunFolder, display: Display) -> dict[str, Any]:
    run = Run(loaded, folder, display)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, run.stop, task)
    try:
        await run.start()
        await run.work()
    except TurnwiseError as error:
        await run.close("failed", str(error))
        raise
    except asyncio.CancelledError:
        await run.close("stopped", "")
        raise KeyboardInterrupt from None
    except BaseException as error:
        await run.close("failed", f"{type(error).__name__}: {error}")
        raise
    return await run.close("finished" if run.is_finished else "stopped", "")


async def _warm_start(loaded: Loaded, folder: RunFolder, display: Display) -> Path:
    config, model = loaded.config, resolve_model(loaded.config.model.path)
    fleet = Fleet(config, model, folder.path, plays=False)
    try:
        await fleet.start()
        with MetricsLog(folder.metrics) as log:
            await do_warm_start(config, model, folder, fleet.learner, log, print)
    finally:
        await fleet.close()
    return folder.warmstart


def _config_file(folder: RunFolder) -> Path:
    """Return where the resolved configuration goes: a resumed run keeps the first one and adds its own."""
    if not folder.config.exists():
        return folder.config
    return folder.config.with_name(f"config-from-{folder.latest() or 0:06d}.yaml")
