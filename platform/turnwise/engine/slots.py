"""The slot KV cache: one row of preallocated keys and values a session, kept between its turns.

`SlotTable` is the bookkeeping (which session holds which slot, which tokens its cache covers); `SlotCache` is the
tensors, in the form that transformers' models take as `past_key_values`. Both belong to the engine's compute thread.
Row 0 of the tensors is scratch, where padding is written; slot i is row i + 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from turnwise.errors import EngineError
from turnwise.records import IntArray

MIN_LENGTH = 64
"""Tokens a slot holds at first; it doubles as contexts grow."""


class SlotTable:
    """Who holds which slot, and how much of its tokens the cache covers."""

    def __init__(self, num_slots: int, max_context: int) -> None:
        """All slots start free."""
        self.ids = np.zeros((num_slots, max_context), np.int32)  # [slot, position] tokens known
        self.num_cached = np.zeros(num_slots, np.int64)  # [slot] leading tokens whose keys and values are held
        self.is_busy = np.zeros(num_slots, np.bool_)  # [slot] a request is running in it
        self._session_of: list[str | None] = [None] * num_slots
        self._slot_of: dict[str, int] = {}
        self._used = np.zeros(num_slots, np.int64)  # [slot] when it was last acquired
        self._clock = 0

    def acquire(self, session: str, context_ids: IntArray) -> int:
        """Return a slot for the session: its own, a free one, or that of the session idle longest; EngineError if none.

        The cache stays valid for the prefix that the new context shares with it, except the context's last token.
        """
        slot = self._slot_of.get(session)
        if slot is None:
            slot = self._vacate()
            self._slot_of[session], self._session_of[slot] = slot, session
        self._clock += 1
        self._used[slot] = self._clock
        self.is_busy[slot] = True
        self.num_cached[slot] = self._shared_prefix(slot, context_ids)
        self.ids[slot, : len(context_ids)] = context_ids
        return slot

    def release(self, slot: int) -> None:
        """Mark a slot idle; its session keeps it."""
        self.is_busy[slot] = False

    def forget(self, sessions: Iterable[str]) -> None:
        """Free the slots of these sessions; unknown names are ignored."""
        for session in sessions:
            slot = self._slot_of.pop(session, None)
            if slot is not None:
                self._session_of[slot] = None
                self.num_cached[slot] = 0
                self.is_busy[slot] = False

    def drop_caches(self) -> None:
        """Declare all keys and values void; sessions keep their slots."""
        self.num_cached[:] = 0

    def _vacate(self) -> int:
        for slot, session in enumerate(self._session_of):
            if session is None:
                return slot
        idle = np.flatnonzero(~self.is_busy)
        if not len(idle):
            raise EngineError(f"all {len(self.is_busy)} slots are running")
        oldest = int(idle[np.argmin(self._used[idle])])
        self.forget([str(self._session_of[oldest])])
        return oldest

    def _shared_prefix(self, slot: int, context_ids: IntArray) -> int:
        limit = min(int(self.num_cached[slot]), len(context_ids) - 1)
        differs = self.ids[slot, :limit] != context_ids[:limit]
        return int(np.argmax(differs)) if differs.any() else limit


@dataclass(slots=True)
class Placement:
    """Where one forward pass writes and what it reads; the same for all layers."""

    rows: torch.Tensor  # [batch, width] cache row of each new token (0: scratch)
    positions: torch.Tensor  # [batch, width]
    length: int  # columns to be read
    read: slice | torch.Tensor  # cache rows to be read: a range (no copy) or [batch] row numbers


class SlotLayer(CacheLayerMixin):
    """Keys and values [rows, heads, length, dim] of one layer."""

    is_croppable = False

    def __init__(self, owner: SlotCache) -> None:
        """The tensors come with the first update."""
        super().__init__()
        self._owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate in the shape and dtype of the first keys and values."""
        self.keys = _grown(None, key_states, self._owner.shape)
        self.values = _grown(None, value_states, self._owner.shape)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [batch, heads, width, dim] where the placement says, and return what it reads."""
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        elif self.keys.shape[0] != self._owner.shape[0] or self.keys.shape[2] != self._owner.shape[1]:
            self.keys = _grown(self.keys, key_states, self._owner.shape)
            self.values = _grown(self.values, value_states, self._owner.shape)
        return self._owner.exchange(self.keys, key_states), self._owner.exchange(self.values, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Never consulted: masks come ready-made."""
        return self._owner.placement.length, 0

    def get_seq_length(self) -> int:
        """Never consulted: positions come ready-made."""
        return 0

    def get_max_length(self) -> int:
        """Return no maximum: the engine checks lengths."""
        return -1


class SlotCache(Cache):
    """What the model sees as `past_key_values`; set `placement` before each forward pass."""

    def __init__(self, num_layers: int, num_slots: int, max_context: int) -> None:
        """Nothing is allocated yet."""
        super().__init__(layers=[SlotLayer(self) for _ in range(num_layers)])
        self._limits = (num_slots + 1, max_context)
        self.shape = (0, 0)  # rows, length
        self._index: dict[int, torch.Tensor] = {}

    def place(self, placement: Placement, num_rows: int) -> None:
        """Prepare a pass that touches rows below `num_rows`; grows by doubling, up to the limits."""
        rows, length = self.shape
        if num_rows > rows:
            rows = min(self._limits[0], max(2 * rows, num_rows))
        if placement.length > length:
            length = min(self._limits[1], max(2 * length, placement.length, MIN_LENGTH))
        self.shape = rows, length
        self.placement = placement
        self._index = {}

    def exchange(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Write `new` [batch, heads, width, dim] into `held` and return the rows and columns to be read."""
        heads, dim = held.shape[1], held.shape[3]
        held.view(-1, dim).index_copy_(0, self._flat_index(heads), new.reshape(-1, dim))
        columns, read = held[:, :, : self.placement.length], self.placement.read
        return columns[read] if isinstance(read, slice) else columns.index_select(0, read)

    def drop(self) -> None:
        """Free the tensors."""
        self.shape = (0, 0)
        for layer in self.layers:
            layer.keys = layer.values = None

    def _flat_index(self, heads: int) -> torch.Tensor:
        if heads not in self._index:
            place = self.placement
            head = torch.arange(heads, device=place.rows.device)[None, :, None]
            flat = (place.rows[:, None, :] * heads + head) * self.shape[1] + place.positions[:, None, :]
            self._index[heads] = flat.reshape(-1)
        return self._index[heads]


def _grown(held: torch.Tensor | None, like: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    # zeros, not empty: masked columns are still multiplied by 0, and 0 times a stray NaN is NaN
    grown = like.new_zeros((shape[0], like.shape[1], shape[1], like.shape[3]))
    if held is not None:
        grown[: held.shape[0], :, : held.shape[2]] = held
    return grown
