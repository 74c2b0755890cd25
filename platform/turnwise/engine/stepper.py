"""What the hf engine computes: running requests in slots, one sampled token each a step.

State stands in arrays by slot, so that a step costs Python no loop over requests except those that end. Called by the
engine's thread only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from turnwise.engine import Completion, Finish, Request
from turnwise.engine.checksum import checksum as checksum_of_state
from turnwise.engine.decoder import Decoder, Rows
from turnwise.engine.sampling import sample, uniforms
from turnwise.engine.slots import SlotTable
from turnwise.engine.weights import arrays_of, load_arrays
from turnwise.errors import EngineError, failure_of
from turnwise.records import Failure, IntArray

PASS_TOKENS = 8192
"""Padded tokens in one prefill pass."""

CHUNK = 2048
"""Most tokens of one slot in a prefill pass; bounds the attention mask of long contexts."""

SLACK = 8
"""Tokens by which lengths in a prefill pass may differ; more where they differ by less than a third."""


class SlotStepper:
    """Implements `Stepper` with a stock transformers model."""

    def __init__(self, model: Any, *, num_slots: int, max_context: int, threads: int, eos_ids: Sequence[int]) -> None:
        """`model` is in eval mode, with full attention; `eos_ids` end an action."""
        self._model, self._threads = model, threads
        self.num_slots, self.num_sampled = num_slots, 0
        self._num_tokens = int(model.get_input_embeddings().weight.shape[0])
        self._ends = np.isin(np.arange(self._num_tokens), np.asarray(eos_ids, np.int64))
        self._held = (0, checksum_of_state(arrays_of(model)))
        self._max_context = max_context
        self.reset()

    def prepare(self) -> None:
        """Set the number of threads, which torch keeps for each calling thread."""
        torch.set_num_threads(self._threads)

    def reset(self) -> None:
        """Forget all requests and caches."""
        shape = (self.num_slots, self._max_context)
        self._table = SlotTable(*shape)
        self._decoder = Decoder(self._model, self._table)
        self._slots: dict[int, int] = {}  # key -> slot
        self._keys = np.zeros(self.num_slots, np.int64)
        self._num_context = np.zeros(self.num_slots, np.int64)
        self._num_known = np.zeros(self.num_slots, np.int64)  # context and sampled tokens
        self._limit = np.zeros(self.num_slots, np.int64)  # known tokens at which it ends
        self._temperature = np.ones(self.num_slots, np.float32)
        self._draws = np.zeros(shape, np.float64)  # by position of the token
        self._logprobs = np.zeros(shape, np.float32)
        self._versions = np.zeros(shape, np.int32)

    def start(self, key: int, request: Request) -> None:
        """Give the request a slot; EngineError for one that cannot run."""
        context = np.asarray(request.context_ids, np.int32)
        self._check(request, context)
        slot = self._table.acquire(request.session, context)
        num_context, room = len(context), self._max_context - len(context)
        num_new = min(request.max_tokens, room)
        self._slots[key], self._keys[slot] = slot, key
        self._num_context[slot] = self._num_known[slot] = num_context
        self._limit[slot] = num_context + num_new
        self._temperature[slot] = request.temperature
        self._draws[slot, num_context : num_context + num_new] = uniforms(request.seed, num_new)

    def step(self) -> list[tuple[int, Completion | Failure]]:
        """Prefill what is not cached, then sample one token for every running request."""
        running = np.sort(np.fromiter(self._slots.values(), np.int64, len(self._slots)))
        pending = self._num_known[running] - self._table.num_cached[running]
        ended: list[tuple[int, Completion | Failure]] = []
        for group in _groups(running, pending):
            self._feed_chunks(group)
            ended += self._sample(group)
        if any(isinstance(result, Failure) for _, result in ended):
            self._drop_caches()  # what is not finite would spoil later sums, even behind a mask
        return ended

    def stop(self, keys: Sequence[int]) -> list[tuple[int, Completion]]:
        """End requests with what they have."""
        return [(key, self._end(self._slots[key], Finish.ABORT)) for key in keys]

    def forget(self, sessions: Sequence[str]) -> None:
        """Free the slots of sessions."""
        self._table.forget(sessions)

    def load(self, version: int, checksum: str, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Load and prove weights; all caches are void, and running requests prefill again."""
        self._drop_caches()
        self._held = (version, load_arrays(self._model, checksum, state))

    def held(self) -> tuple[int, str]:
        """Return version and checksum of the weights that were proven last."""
        return self._held

    def _check(self, request: Request, context: IntArray) -> None:
        if not len(context):
            raise EngineError("the context is empty")
        if len(context) >= self._max_context:
            limit = f"max_context={self._max_context}"
            raise EngineError(f"a context of {len(context)} tokens leaves no room in a slot of {limit} tokens")
        if context.min() < 0 or context.max() >= self._num_tokens:
            raise EngineError(f"the context has ids outside the model's {self._num_tokens} tokens")
        if request.max_tokens < 1:
            raise EngineError(f"max_tokens={request.max_tokens}: at least 1 token has to be asked for")
        if not 0 <= request.temperature < float("inf"):
            raise EngineError(f"temperature={request.temperature} is not a number from 0 on")

    def _drop_caches(self) -> None:
        self._table.drop_caches()
        self._decoder.drop()

    def _feed_chunks(self, slots: Rows) -> None:
        """Cache all but the last `CHUNK` uncached tokens of each slot."""
        while True:
            pending = self._num_known[slots] - self._table.num_cached[slots]
            long = slots[pending > CHUNK]
            if not len(long):
                return
            self._decoder.forward(long, np.minimum(pending[pending > CHUNK] - 1, CHUNK))

    def _sample(self, slots: Rows) -> list[tuple[int, Completion | Failure]]:
        logits = self._decoder.forward(slots, self._num_known[slots] - self._table.num_cached[slots])
        at = self._num_known[slots]
        tokens, logprobs = sample(logits, self._temperature[slots], self._draws[slots, at])
        self._table.ids[slots, at] = tokens
        self._logprobs[slots, at] = logprobs
        self._versions[slots, at] = self._held[0]
        self._num_known[slots] += 1
        self.num_sampled += len(slots)
        is_broken = ~np.isfinite(logprobs)
        is_stop = self._ends[tokens] & ~is_broken
        is_over = is_stop | is_broken | (self._num_known[slots] >= self._limit[slots])
        return [self._outcome(slots[i], is_stop[i], is_broken[i]) for i in np.flatnonzero(is_over)]

    def _outcome(self, slot: int, is_stop: bool, is_broken: bool) -> tuple[int, Completion | Failure]:
        key = int(self._keys[slot])
        completion = self._end(slot, Finish.STOP if is_stop else Finish.LENGTH)
        if is_broken:
            return key, failure_of(EngineError("the model gave logits that are not finite"), "generate")
        return key, completion

    def _end(self, slot: int, finish: Finish) -> Completion:
        del self._slots[int(self._keys[slot])]
        self._table.release(slot)
        written = slice(int(self._num_context[slot]), int(self._num_known[slot]))
        return Completion(
            ids=self._table.ids[slot, written].copy(),
            logprobs=self._logprobs[slot, written].copy(),
            versions=self._versions[slot, written].copy(),
            finish=finish,
        )


def _groups(slots: Rows, pending: Rows) -> Iterator[Rows]:
    """Split slots into passes of similar numbers of pending tokens, so that a long prompt does not pad the others."""
    order = np.argsort(-pending, kind="stable")
    begin = 0
    while begin < len(order):
        longest = min(int(pending[order[begin]]), CHUNK)
        least = longest - max(SLACK, longest // 3) if longest > 1 else 1
        most = max(1, PASS_TOKENS // longest)
        # decoding rows (1 pending) never join a prefill: they would be padded to its width
        fits = pending[order[begin:]] >= max(least, 2 if longest > 1 else 1)
        size = min(most if longest > 1 else len(order), int(fits.sum()))
        yield np.sort(slots[order[begin : begin + size]])
        begin += size
