"""The parts of the loop by themselves, in one process: the engine, the learner, and a torch loop to compare it with.

    python benchmarks/bare.py < WORK.json     {"run": FOLDER, "model": FOLDER, "config": FILE, "words": [...]}

`loop.py` starts this after every training, in the environment that Turnwise gives its actors, and names the training's
run folder; the first batch stored there is the work. No environment, no Ray. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from turnwise.config import load_config
from turnwise.config.plugins import build_plugin
from turnwise.config.schema import LearnerConfig, RunConfig
from turnwise.credit.assign import assign
from turnwise.engine import Request
from turnwise.engine.client import LocalEngineClient
from turnwise.fleet import is_lockstep
from turnwise.learner.policy import Learner
from turnwise.records import Batch, IntArray, Trajectory
from turnwise.rollout.episode import request_seed
from turnwise.store.store import Store

ANSWER_S = 300.0
"""Seconds that the engine has for one action."""


ROUNDS = 3
"""Measurements of a part in each repetition; odd."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One repetition of one part."""

    seconds: float
    sampled_tokens: int  # action tokens
    all_tokens: int  # observation and action tokens: each passes the model once
    exact_share: float = 1.0  # share of the actions that came out as recorded, token for token

    @property
    def sampled_per_s(self) -> float:
        """Action tokens a second."""
        return self.sampled_tokens / self.seconds

    @property
    def all_per_s(self) -> float:
        """All tokens a second."""
        return self.all_tokens / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One action of a recorded episode: what the policy saw, and what it wrote."""

    context_ids: IntArray  # [context]
    action_ids: IntArray  # [action]
    seed: int


def asks_of(trajectory: Trajectory) -> list[Ask]:
    """Return the requests that the episode made of its engine."""
    context, asks = np.zeros(0, np.int32), []
    for index, turn in enumerate(trajectory.turns):
        seen = turn.observation_ids if turn.starts_context else np.concatenate([context, turn.observation_ids])
        seed = request_seed(int(trajectory.provenance["episode_seed"]), index)
        asks.append(Ask(context_ids=seen, action_ids=turn.action_ids, seed=seed))
        context = np.concatenate([seen, turn.action_ids])
    return asks


def count_tokens(trajectories: Sequence[Trajectory]) -> tuple[int, int]:
    """Return (action tokens, all tokens)."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    sampled = sum(len(turn.action_ids) for turn in turns)
    return sampled, sampled + sum(len(turn.observation_ids) for turn in turns)


class BareEngine:
    """The configured engine in this process, answering the requests of recorded episodes as fast as it can."""

    def __init__(self, config: RunConfig, model: Path) -> None:
        """`model` has the weights that sampled the episodes: then equal seeds give equal tokens."""
        kind, options = build_plugin("engine", dict(config.engine))
        self._engine = kind(options, str(model), dtype=config.model.dtype, lockstep=is_lockstep(config))

    def replay(self, trajectories: Sequence[Trajectory]) -> Measured:
        """Sample every action of the episodes again, all episodes at once, each over its turns."""
        asks = [asks_of(trajectory) for trajectory in trajectories]
        started = time.perf_counter()
        written = asyncio.run(_play_all(LocalEngineClient(self._engine), asks))
        seconds = time.perf_counter() - started
        recorded = [ask.action_ids for episode in asks for ask in episode]
        same = [np.array_equal(mine, theirs) for mine, theirs in zip(written, recorded, strict=True)]
        sampled, read = sum(map(len, written)), count_tokens(trajectories)
        return Measured(
            seconds=seconds,
            sampled_tokens=sampled,
            all_tokens=read[1] - read[0] + sampled,
            exact_share=float(np.mean(same)),
        )

    def close(self) -> None:
        """Stop the engine's thread."""
        self._engine.shutdown()


async def _play_all(client: LocalEngineClient, episodes: Sequence[Sequence[Ask]]) -> list[IntArray]:
    names = [f"episode-{number:06d}" for number in range(len(episodes))]
    client.open(names)
    played = await asyncio.gather(
        *(
            _play(client, name, order, episode)
            for order, (name, episode) in enumerate(zip(names, episodes, strict=True))
        )
    )
    await client.drain()
    return [action for actions in played for action in actions]


async def _play(client: LocalEngineClient, session: str, order: int, asks: Sequence[Ask]) -> list[IntArray]:
    written = []
    for ask in asks:
        request = Request(
            session=session,
            context_ids=ask.context_ids,
            max_tokens=len(ask.action_ids),
            seed=ask.seed,
            order=order,
        )
        written.append((await client.generate(request, ANSWER_S)).ids)
    client.close([session])
    return written


class BareLearner:
    """`Learner.update` without an actor around it."""

    def __init__(self, config: RunConfig, model: Path) -> None:
        """Load the model; the threads are those of the configuration."""
        self._threads = config.learner.threads
        self._learner = Learner(model, config.learner, dtype=config.model.dtype, seed=config.seed)

    def update(self, batch: Batch) -> Measured:
        """Do one update on the batch."""
        torch.set_num_threads(self._threads)
        started = time.perf_counter()
        self._learner.update(batch)
        return Measured(
            seconds=time.perf_counter() - started,
            sampled_tokens=batch.num_loss_tokens,
            all_tokens=len(batch.ids),
        )


class BareTorch:
    """What one would write without Turnwise: padded rows, forward, policy gradient, backward, clip, AdamW.

    As many optimizer steps and rows a step as the learner's update; rows in the order of the batch, padded to the
    longest of the step, logits of every position, no ratio, no metrics.
    """

    def __init__(self, config: LearnerConfig, model: Path) -> None:
        """Load the model in float32."""
        self._config = config
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True).eval()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=config.lr, weight_decay=0.0, fused=True)

    def update(self, batch: Batch) -> Measured:
        """Do one update on the batch's rows."""
        torch.set_num_threads(self._config.threads)
        rows = np.split(np.arange(len(batch.ids)), batch.row_offsets[1:-1])
        started = time.perf_counter()
        for part in range(self._config.minibatches):
            self._step(batch, rows[part :: self._config.minibatches])
        return Measured(
            seconds=time.perf_counter() - started,
            sampled_tokens=batch.num_loss_tokens,
            all_tokens=len(batch.ids),
        )

    def _step(self, batch: Batch, rows: Sequence[np.ndarray]) -> None:
        ids, advantages, trained = (_padded(array, rows) for array in (batch.ids, batch.advantages, batch.loss_mask))
        ids = ids.long()
        logits = self._model(input_ids=ids[:, :-1], use_cache=False).logits
        logprobs = torch.log_softmax(logits, dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
        loss = -(logprobs * advantages[:, 1:])[trained[:, 1:]].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()


def _padded(array: np.ndarray, rows: Sequence[np.ndarray]) -> torch.Tensor:
    """Return [rows, longest], padded with zeros on the right."""
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(array[row]) for row in rows], batch_first=True)


def measure(run: Path, model: Path, config: RunConfig) -> dict[str, Measured]:
    """Measure all parts on the first batch of a run."""
    groups = Store(run).groups(1)
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    batch, _ = assign(groups, config.credit)
    engine = BareEngine(config, model)
    try:
        replayed = middle(lambda: engine.replay(trajectories))
    finally:
        engine.close()
    learner, plain = BareLearner(config, model), BareTorch(config.learner, model)
    return {
        "engine": replayed,
        "learner": middle(lambda: learner.update(batch)),
        "torch": middle(lambda: plain.update(batch)),
    }


def middle(part: Callable[[], Measured]) -> Measured:
    """Return the median of `ROUNDS` measurements, after one that is not counted."""
    part()
    return sorted((part() for _ in range(ROUNDS)), key=lambda measured: measured.seconds)[ROUNDS // 2]


def main() -> None:
    """Read the work from standard input, print the measurements."""
    disable_progress_bar()  # of loading weights: it would stand among the tables
    work: dict[str, Any] = json.load(sys.stdin)
    config = load_config(work["config"], work["words"]).config
    measured = measure(Path(work["run"]), Path(work["model"]), config)
    print(json.dumps({name: asdict(part) for name, part in measured.items()}))


if __name__ == "__main__":
    main()
