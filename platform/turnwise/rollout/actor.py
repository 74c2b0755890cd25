"""`RolloutActor`: the shell that makes a rollout worker a Ray actor. No logic of its own.

The fleet wraps it in `ray.remote` and starts it as `rollout:i`. A worker that died is replaced by the fleet; what it
was asked for is asked again elsewhere by the dispatcher.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from turnwise.agent import Agent, Tokenizer
from turnwise.config.plugins import build_plugin
from turnwise.config.schema import TimeoutConfig
from turnwise.engine.client import EngineClient
from turnwise.models import tokenizer_of
from turnwise.records import Trajectory
from turnwise.rollout.episode import EpisodeSpec
from turnwise.rollout.worker import RolloutWorker
from turnwise.sandbox.actor import lease_from

MAX_CONCURRENCY = 1000
"""Calls of one actor that may be in progress at once (Ray's `max_concurrency`)."""


class RolloutActor:
    """One rollout worker in a process of its own."""

    def __init__(
        self,
        *,
        name: str,
        env_id: str,
        env_kwargs: Mapping[str, Any],
        agent: Mapping[str, Any],
        model_path: str,
        engines: Sequence[str],
        timeouts: TimeoutConfig,
        slots: int,
        max_lost_threads: int = 64,
        oracle: bool = False,
        success: tuple[str, float] = ("outcome", 0.5),
        sandboxes: Sequence[str] = (),
    ) -> None:
        """Build the agent from its section `{name: ..., options}` and the model's tokenizer; UserError.

        `engines` are names of engine actors: with a handle among its arguments, Ray could not start this actor again.
        `sandboxes` are those of the pools that environments get their sandboxes from; none: they open them here.
        """
        import ray

        lease_from(sandboxes, name)

        client = EngineClient([ray.get_actor(engine) for engine in engines], name)
        built = load_agent(agent, model_path)
        self._worker = RolloutWorker(
            name,
            env_id,
            env_kwargs,
            built,
            client,
            timeouts,
            slots,
            max_lost_threads=max_lost_threads,
            oracle=oracle,
            success=success,
        )

    async def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        """Stream the trajectory of each spec as it ends; see `RolloutWorker.run_many`."""
        async for trajectory in self._worker.run_many(specs):
            yield trajectory

    async def ping(self) -> int:
        """Return the process id: the process lives and its event loop turns."""
        return os.getpid()

    async def status(self) -> dict[str, Any]:
        """Return the worker's status, and its process."""
        return {**self._worker.status(), "pid": os.getpid()}

    async def shutdown(self) -> None:
        """Stop all episodes and close all environments."""
        await self._worker.close()


def load_agent(section: Mapping[str, Any], model_path: str) -> Agent:
    """Return the agent of a section `{name: ..., options}` with the tokenizer of a model folder; UserError."""
    kind, config = build_plugin("agent", dict(section))
    tokenizer: Tokenizer = tokenizer_of(model_path)
    agent: Agent = kind(config, tokenizer)
    return agent
