"""The supervised warm start: demonstrations become token rows, and the learner imitates their actions.

Rows are built with the very `Dialogue` that the rollout uses, so the model is trained on the tokens it will see. Loss
on action tokens only. A step's rows are a function of the seed and the step's number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from turnwise.agent import Agent
from turnwise.demonstrations import Demonstration
from turnwise.errors import PolicyError, UserError
from turnwise.learner.microbatch import Indices, PackedRows
from turnwise.learner.schedule import cosine
from turnwise.records import BoolArray, IntArray, Message

LAST_LR_FRACTION = 0.1
"""Where the cosine ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRows:
    """Demonstrations as tokens, laid end to end; a `PackedRows`."""

    ids: IntArray  # [T]
    loss_mask: BoolArray  # [T] True for action tokens
    row_offsets: IntArray  # [num_rows + 1] start of each row, that is of each context

    @property
    def num_rows(self) -> int:
        """Number of contexts."""
        return len(self.row_offsets) - 1

    def take(self, rows: Indices) -> TokenRows:
        """Return some rows, in the order given."""
        spans = [np.arange(self.row_offsets[row], self.row_offsets[row + 1]) for row in rows]
        places = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        return TokenRows(ids=self.ids[places], loss_mask=self.loss_mask[places], row_offsets=offsets.astype(np.int32))


class SftOptions(Protocol):
    """The part of `SftConfig` that is read here."""

    steps: int
    batch_size: int
    lr: float


class SupervisedLearner(Protocol):
    """The part of `Learner` that is used here."""

    def sft_update(self, packed: PackedRows, lr: float) -> float:
        """Do one step and return its loss."""


def token_rows(demonstrations: Iterable[Demonstration], agent: Agent) -> TokenRows:
    """Return the rows of all demonstrations; UserError if there is no action to learn from.

    A demonstration ends where the agent's context is full, as an episode would.
    """
    writer = _RowWriter()
    for demonstration in demonstrations:
        _write(writer, demonstration, agent)
    if not any(mask.any() for mask in writer.masks):
        raise UserError("sft", "demonstrations", "hold no action that fits the context", "raise agent.max_context")
    return writer.finish()


def train(
    learner: SupervisedLearner,
    rows: TokenRows,
    config: SftOptions,
    seed: int,
    *,
    first: int = 0,
    last: int | None = None,
    after_step: Callable[[int, float], Any] = lambda step, loss: None,
) -> list[float]:
    """Do the steps from `first` to before `last` (all by default) and return their losses, in nats a token."""
    losses = []
    for step in range(first, config.steps if last is None else min(last, config.steps)):
        lr = cosine(config.lr, LAST_LR_FRACTION, step / max(1, config.steps - 1))
        losses.append(learner.sft_update(rows.take(step_rows(rows.num_rows, config.batch_size, seed, step)), lr))
        after_step(step, losses[-1])
    return losses


def step_rows(num_rows: int, batch_size: int, seed: int, step: int) -> Indices:
    """Return the rows of a step: each row once an epoch, in an order of its own every epoch."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = places // num_rows
    orders = {
        int(epoch): np.random.default_rng([seed, int(epoch)]).permutation(num_rows) for epoch in np.unique(epochs)
    }
    return np.asarray([orders[int(epoch)][place % num_rows] for epoch, place in zip(epochs, places, strict=True)])


@dataclass(slots=True)
class _RowWriter:
    ids: list[IntArray] = field(default_factory=list)
    masks: list[BoolArray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def begin(self) -> None:
        self.lengths.append(0)

    def add(self, ids: IntArray, *, is_action: bool) -> None:
        self.ids.append(ids)
        self.masks.append(np.full(len(ids), is_action))
        self.lengths[-1] += len(ids)

    def finish(self) -> TokenRows:
        return TokenRows(
            ids=np.concatenate(self.ids).astype(np.int32),
            loss_mask=np.concatenate(self.masks),
            row_offsets=np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32),
        )


def _write(writer: _RowWriter, demonstration: Demonstration, agent: Agent) -> None:
    instructions, opening, exchanges = split_messages(demonstration.messages)
    dialogue = agent.begin(instructions=instructions, tools=demonstration.tools, observation=opening)
    for number, (action, answer) in enumerate(exchanges):
        try:
            prompt = dialogue.prompt()
        except PolicyError as error:
            raise UserError(
                "agent.max_context", agent.max_context, str(error), "raise it, or shorten the task"
            ) from error
        if number == 0 or prompt.starts_context:
            writer.begin()
        writer.add(prompt.observation_ids, is_action=False)
        action_ids = dialogue.spell(action)
        writer.add(action_ids, is_action=True)
        dialogue.act(action_ids)
        dialogue.observe(answer)
        if dialogue.is_full:
            return


def split_messages(messages: Sequence[Message]) -> tuple[str, list[Message], list[tuple[str, list[Message]]]]:
    """Return the instructions, the first observation, and each action's text with the messages that answer it."""
    has_system = messages[0]["role"] == "system"
    instructions = str(messages[0]["content"]) if has_system else ""
    opening: list[Message] = []
    exchanges: list[tuple[str, list[Message]]] = []
    for message in messages[1 if has_system else 0 :]:
        if message["role"] == "assistant":
            exchanges.append((str(message["content"]), []))
        else:
            (exchanges[-1][1] if exchanges else opening).append(message)
    return instructions, opening, exchanges
