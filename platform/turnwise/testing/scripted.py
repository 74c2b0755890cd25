"""`ScriptedEngine`: an engine that answers from a function, to see a loop run without a model.

It is a real engine in all but the model: batching, sessions, aborts, weight proofs and failures are those of `hf`.
There is no torch in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from turnwise.agent import Tokenizer
from turnwise.engine import Completion, Finish, Request
from turnwise.engine.batching import ContinuousBatching, LockStepBatching
from turnwise.engine.checksum import checksum as checksum_of_state
from turnwise.engine.loop import Result, SteppedEngine
from turnwise.errors import EngineError, WeightProofError, failure_of
from turnwise.records import IntArray

Answer = Callable[[IntArray], str | Sequence[int]]
"""From a context's ids to the action: a text, to which the end token is added, or ids, which are taken as they are."""


class ScriptedEngine(SteppedEngine):
    """Answers every request by calling a function."""

    def __init__(
        self,
        answer: Answer,
        tokenizer: Tokenizer | None = None,
        *,
        lockstep: bool = False,
        gather_s: float = 0.5,
        slots: int = 128,
    ) -> None:
        """`tokenizer` is needed for answers in text. An `answer` that raises fails its request only."""
        super().__init__(
            ScriptedStepper(answer, tokenizer, slots), LockStepBatching(gather_s) if lockstep else ContinuousBatching()
        )


class ScriptedStepper:
    """Implements `Stepper`: a whole action a step, of log-probability 0 (a function leaves nothing to chance)."""

    def __init__(self, answer: Answer, tokenizer: Tokenizer | None, num_slots: int) -> None:
        """Hold no weights at first, as version 0."""
        self.num_slots, self.num_sampled = num_slots, 0
        self._answer, self._tokenizer = answer, tokenizer
        self._requests: dict[int, Request] = {}
        self._held = (0, checksum_of_state({}))

    def prepare(self) -> None:
        """Nothing to do."""

    def start(self, key: int, request: Request) -> None:
        """Keep the request for the next step."""
        if not len(request.context_ids):
            raise EngineError("the context is empty")
        if request.max_tokens < 1:
            raise EngineError(f"max_tokens={request.max_tokens}: at least 1 token has to be asked for")
        self._requests[key] = request

    def step(self) -> list[tuple[int, Result]]:
        """Answer all requests."""
        results = [(key, self._result(request)) for key, request in self._requests.items()]
        self._requests = {}
        return results

    def stop(self, keys: Sequence[int]) -> list[tuple[int, Completion]]:
        """Drop requests."""
        for key in keys:
            del self._requests[key]
        return [(key, Completion.aborted()) for key in keys]

    def forget(self, sessions: Sequence[str]) -> None:
        """Nothing is cached."""

    def reset(self) -> None:
        """Drop all requests."""
        self._requests = {}

    def load(self, version: int, checksum: str, state: Mapping[str, np.ndarray]) -> None:
        """Compute the checksum of what came; WeightProofError if it is another than the published one."""
        held = checksum_of_state(state)
        if held != checksum:
            raise WeightProofError(f"the engine holds weights with checksum {held}, published was {checksum}")
        self._held = (version, held)

    def held(self) -> tuple[int, str]:
        """Return version and checksum of the weights that came last."""
        return self._held

    def _result(self, request: Request) -> Result:
        try:
            ids = self._ids(self._answer(request.context_ids))
        except Exception as error:  # noqa: BLE001 - the user's function is a border: it fails this request only
            return failure_of(EngineError(f"{type(error).__name__}: {error}"), "generate")
        is_cut = len(ids) > request.max_tokens
        ids = ids[: request.max_tokens]
        self.num_sampled += len(ids)
        return Completion(
            ids=ids,
            logprobs=np.zeros(len(ids), np.float32),
            versions=np.full(len(ids), self._held[0], np.int32),
            finish=Finish.LENGTH if is_cut else Finish.STOP,
        )

    def _ids(self, answer: str | Sequence[int]) -> IntArray:
        if not isinstance(answer, str):
            return np.asarray(answer, np.int32)
        if self._tokenizer is None:
            raise ValueError("an answer in text needs a tokenizer")
        ids = [*self._tokenizer.encode(answer, add_special_tokens=False), self._tokenizer.eos_token_id]
        return np.asarray(ids, np.int32)
