"""`LearnerActor`: the thin Ray shell around one `Learner`, named `learner:0`.

The controller calls it. Methods that change weights take a key: Ray may run a call twice, and a repeated key returns
the stored result without doing anything. A lost learner has lost its weights: it is not restarted, the run resumes from
its last checkpoint. Importing it loads no torch, so that who starts the actor does not wait for that.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from turnwise.config.schema import LearnerConfig, SftConfig
from turnwise.learner.sft import TokenRows, train
from turnwise.models import loading
from turnwise.records import Batch

NUM_KEPT = 16
"""Results that are remembered by key."""


class KeyedResults:
    """Runs a piece of work once a key; later calls wait for it and get its result. What raises is not remembered."""

    def __init__(self, num_kept: int = NUM_KEPT) -> None:
        """Forget the oldest result beyond `num_kept`."""
        self._results: OrderedDict[str, Any] = OrderedDict()
        self._lock, self._num_kept = threading.RLock(), num_kept

    def once(self, key: str, work: Callable[[], Any]) -> Any:
        """Return `work()`, or what it returned under this key before."""
        with self._lock:
            if key not in self._results:
                self._results[key] = work()
                while len(self._results) > self._num_kept:
                    self._results.popitem(last=False)
            return self._results[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._results.clear()


@ray.remote(concurrency_groups={"control": 1, "work": 1})
class LearnerActor:
    """One learner; `ping` and `status` answer while an update runs."""

    def __init__(self, model_path: str, config: LearnerConfig, dtype: str, seed: int, temperature: float = 1.0) -> None:
        """Load the model; UserError as for `Learner`."""
        with loading():
            import torch

            from turnwise.learner.policy import Learner

            torch.set_num_threads(config.threads)
            self._learner = Learner(model_path, config, dtype=dtype, seed=seed, temperature=temperature)
        self._done = KeyedResults()

    @ray.method(concurrency_group="control")
    def ping(self) -> int:
        """Return the process id: the actor is there."""
        return os.getpid()

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """Return the learner's status."""
        return self._learner.status()

    @ray.method(concurrency_group="control")
    def version(self) -> int:
        """Return the number of updates done."""
        return self._learner.version

    @ray.method(concurrency_group="work")
    def update(self, batch: Batch, key: int | str) -> dict[str, float]:
        """Do one update and return its metrics; once a key."""
        metrics: dict[str, float] = self._done.once(f"update:{key}", lambda: self._learner.update(batch))
        return metrics

    @ray.method(concurrency_group="work")
    def sft(self, rows: TokenRows, config: SftConfig, seed: int, first: int, last: int, key: int | str) -> list[float]:
        """Do the supervised steps from `first` to before `last` and return their losses; once a key."""
        losses: list[float] = self._done.once(
            f"sft:{key}", lambda: train(self._learner, rows, config, seed, first=first, last=last)
        )
        return losses

    @ray.method(concurrency_group="work")
    def export(self) -> tuple[int, str, Any]:
        """Return version, checksum, and a reference to the weights as a dictionary of arrays."""
        version, checksum, state = self._learner.export()
        return version, checksum, ray.put(state)

    @ray.method(concurrency_group="work")
    def save(self, folder: str) -> int:
        """Write a checkpoint's files into a folder and return the version; doing it twice is harmless."""
        self._learner.save(Path(folder))
        return self._learner.version

    @ray.method(concurrency_group="work")
    def load(self, folder: str) -> int:
        """Go on from a checkpoint and return its version; results kept by key are forgotten."""
        self._learner.load(Path(folder))
        self._done.clear()
        return self._learner.version
