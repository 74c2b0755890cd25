"""Engines: what samples tokens from the policy. Token ids in, token ids with log-probabilities and versions out.

`Engine` is the plain object; `turnwise.engine.actor` is the Ray actor around it, and `turnwise.engine.client` what
rollout workers hold. Implementations are registered under the kind `engine`: `hf` here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from turnwise.records import Failure, FloatArray, IntArray


class Finish(StrEnum):
    """Why generation stopped."""

    STOP = "stop"  # the end token was sampled
    LENGTH = "length"  # `max_tokens` were sampled
    ABORT = "abort"  # the session was closed


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One action to be sampled."""

    session: str  # the episode's id; its context may be cached between turns
    context_ids: IntArray  # [context] everything the policy sees
    max_tokens: int
    temperature: float = 1.0  # 0 is greedy
    seed: int = 0  # decides the sampled tokens together with the weights; nothing else does
    order: int = 0  # place in a lock-step batch: equal runs must use equal orders


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled action."""

    ids: IntArray  # [num_tokens] including the end token where it was sampled
    logprobs: FloatArray  # [num_tokens] under the distribution sampled from (temperature applied; 0: of temperature 1)
    versions: IntArray  # [num_tokens] weight version of each token
    finish: Finish

    @classmethod
    def aborted(cls) -> Completion:
        """Return the completion of a request that was aborted before it began."""
        none = np.zeros(0, np.int32)
        return cls(ids=none, logprobs=np.zeros(0, np.float32), versions=none, finish=Finish.ABORT)


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightReceipt:
    """An engine's proof of what it holds after an update."""

    version: int
    checksum: str  # computed from the tensors that the engine samples with, after loading
    seconds: float


class Engine(Protocol):
    """A policy that can be sampled from and updated."""

    def generate(self, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Completion | Failure]]]:
        """Yield results as they finish, in chunks of (index into `requests`, completion).

        A request that cannot be answered yields a failure in its place and leaves the others alone.
        """

    def open(self, sessions: Sequence[str]) -> None:
        """Announce episodes: a lock-step engine waits for a request of each open session before it samples."""

    def close(self, sessions: Sequence[str]) -> None:
        """Forget episodes: free their caches, abort their requests. Unknown names are ignored."""

    async def update_weights(self, version: int, checksum: str, state: Mapping[str, np.ndarray]) -> WeightReceipt:
        """Load weights between two sampling steps and prove it; WeightProofError if the checksum differs.

        Idempotent for a version that is already held. A failed proof leaves the engine refusing to sample.
        """

    def status(self) -> dict[str, Any]:
        """Return version, checksum, running requests, tokens sampled, seconds busy and seconds waited."""

    def shutdown(self) -> None:
        """Stop sampling; running requests are aborted."""
