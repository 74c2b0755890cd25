"""What estimating costs beside a learner's step on the same batch: 512 trajectories of 20 turns and 8,000 tokens.

`credit.py` calls this. The step is measured with the shipped tiny model on a few short rows and scaled by tokens, which
is less than it would take: attention over 8,000 tokens costs more a token than over a few hundred, and every real model
is larger. So the shares are upper bounds.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from contenders import with_channels
from turnwise.config.plugins import build_plugin
from turnwise.config.schema import LearnerConfig
from turnwise.credit import TurnRewards
from turnwise.errors import TurnwiseError
from turnwise.learner.policy import Learner
from turnwise.models import resolve_model
from turnwise.records import Batch

TRAJECTORIES, TURNS, TOKENS = 512, 20, 8000
GROUP_SIZE = 8
ROW_TOKENS = 200


def measured_cost(sections: dict[str, dict[str, Any]], *, is_quick: bool) -> dict[str, Any]:
    """Return seconds of each estimator and of a step, and the shares, as plain JSON."""
    rows = 8 if is_quick else 64
    step_s = learner_step_s(rows) * TRAJECTORIES * TOKENS / (rows * ROW_TOKENS)
    batch, found = big_batch(), {}
    for label, section in sections.items():
        seconds = _estimate_s(section, batch)
        found[label] = None if seconds is None else {"seconds": seconds, "share": seconds / step_s}
    says = (
        f"{TRAJECTORIES} trajectories of {TURNS} turns and {TOKENS:,} tokens; a learner step on them, one thread, "
        f"scaled from {rows * ROW_TOKENS:,} tokens in rows of {ROW_TOKENS} with the tiny model: {step_s:,.0f} s"
    )
    return {"step_s": step_s, "measured_tokens": rows * ROW_TOKENS, "estimators": found, "says": says}


def big_batch() -> TurnRewards:
    """Return random scores on two channels and a critic's, and keys that come again within groups."""
    rng, shape = np.random.default_rng(0), (TRAJECTORIES, TURNS)
    turn = {"outcome": np.zeros(shape), "process": rng.normal(size=shape), "value": rng.random(shape)}
    keys = [[f"state {number}" for number in row] for row in rng.integers(0, 40, shape)]
    whole = {"outcome": rng.integers(0, 2, TRAJECTORIES).astype(float)}
    whole |= {name: np.zeros(TRAJECTORIES) for name in ("process", "value")}
    return TurnRewards(
        group=[f"task {i // GROUP_SIZE}" for i in range(TRAJECTORIES)],
        num_turns=np.full(TRAJECTORIES, TURNS),
        num_tokens=np.full(shape, TOKENS // TURNS // 2),
        turn=turn,
        turn_mask=dict.fromkeys(turn, np.ones(shape, dtype=bool)),
        outcome=whole,
        outcome_mask=dict.fromkeys(turn, np.ones(TRAJECTORIES, dtype=bool)),
        weights={"outcome": 1.0, "process": 1.0, "value": 0.0},
        state_keys=keys,
        belief_keys=keys,
    )


def _estimate_s(section: dict[str, Any], batch: TurnRewards) -> float | None:
    """Return the middle one of five times in CPU seconds, or None if it cannot be fed."""
    found, given = with_channels(section)
    times = []
    try:
        _, config = build_plugin("estimator", given)
        for _ in range(5):
            started = time.process_time()
            found(config).estimate(batch)
            times.append(time.process_time() - started)
    except (TurnwiseError, KeyError, ValueError):
        return None
    return sorted(times)[2]


def learner_step_s(rows: int) -> float:
    """Return the least of three times of one optimizer step on rows of which half is trained, in CPU seconds."""
    config = LearnerConfig(minibatches=1, threads=1, micro_batch_tokens=2048)
    learner = Learner(resolve_model("tiny"), config, device="cpu")
    rng, size = np.random.default_rng(0), rows * ROW_TOKENS
    position = np.tile(np.arange(ROW_TOKENS), rows).astype(np.int32)
    is_action = position % 20 >= 10
    batch = Batch(
        ids=rng.integers(5, 60, size).astype(np.int32),
        positions=position,
        turn_ids=np.where(is_action, position // 20, -1).astype(np.int32),
        loss_mask=is_action,
        logprobs=np.full(size, -3.0, dtype=np.float32),
        advantages=rng.normal(size=size).astype(np.float32),
        versions=np.zeros(size, dtype=np.int32),
        row_offsets=np.arange(0, size + 1, ROW_TOKENS, dtype=np.int32),
        row_trajectories=np.arange(rows, dtype=np.int32),
    )
    times = []
    for _ in range(3):
        started = time.process_time()
        learner.update(batch)
        times.append(time.process_time() - started)
    return min(times)
