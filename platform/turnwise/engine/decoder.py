"""Forward passes of a stock transformers model over slots: new tokens in, logits of each slot's last token out.

Tokens are padded on the left, so that the last column is every row's last token and the model computes logits for that
column only. Padding writes to the cache's scratch row and reads one column, and its results are thrown away.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from turnwise.engine.slots import Placement, SlotCache, SlotTable
from turnwise.errors import UserError

RANGE_SHARE = 0.85
"""From this share of busy slots on, a pass runs over the whole range of slots, idle ones included: a range needs
no copy. Below it the busy rows are gathered; measured at 128 slots of 80 tokens, that costs about a tenth of a pass."""

Rows = NDArray[np.int64]


class Decoder:
    """Runs the model over slots of a table."""

    def __init__(self, model: Any, table: SlotTable) -> None:
        """`model` is a causal language model in eval mode with full attention in every layer."""
        self._model, self._table = model, table
        self._device = next(model.parameters()).device
        self._dtype = model.dtype
        num_slots, max_context = table.ids.shape
        self._cache = SlotCache(model.config.get_text_config().num_hidden_layers, num_slots, max_context)
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options = {"use_cache": True, **({"logits_to_keep": 1} if keeps else {})}

    def forward(self, slots: Rows, counts: Rows) -> torch.Tensor:
        """Feed the next `counts` uncached tokens of each slot; return logits [slots, vocabulary] after the last one.

        `slots` ascends. The tokens are in the table, which is told that they are cached now.
        """
        span = int(slots[-1]) + 1
        is_range = len(slots) >= RANGE_SHARE * span
        rows, num_new = slots, counts
        if is_range and len(slots) < span:
            rows, num_new = np.arange(span), np.zeros(span, np.int64)
            num_new[slots] = counts
        logits = self._pass(rows, num_new, is_range)
        self._table.num_cached[slots] += counts
        return logits if len(rows) == len(slots) else logits[torch.from_numpy(slots).to(self._device)]

    def drop(self) -> None:
        """Free the cache's memory; the table must be told separately."""
        self._cache.drop()

    def _pass(self, slots: Rows, counts: Rows, is_range: bool) -> torch.Tensor:
        width = int(counts.max())
        offsets = np.arange(width) - (width - counts)[:, None]  # [slots, width]; negative: padding
        starts = self._table.num_cached[slots]
        is_real = offsets >= 0
        positions = np.where(is_real, starts[:, None] + offsets, 0)
        ids = self._table.ids[slots[:, None], positions].astype(np.int64)
        rows = np.where(is_real, slots[:, None] + 1, 0)
        length = int(positions.max()) + 1
        with torch.inference_mode():
            read = slice(1, len(slots) + 1) if is_range else self._tensor(slots + 1)
            place = Placement(rows=self._tensor(rows), positions=self._tensor(positions), length=length, read=read)
            self._cache.place(place, int(slots[-1]) + 2)
            output = self._model(
                input_ids=self._tensor(ids),
                position_ids=place.positions,
                attention_mask=self._mask(place.positions, length),
                past_key_values=self._cache,
                **self._options,
            )
            logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _mask(self, positions: torch.Tensor, length: int) -> torch.Tensor:
        hidden = torch.arange(length, device=self._device) > positions[:, None, :, None]
        return torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, float("-inf"))

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)


def context_limit(config: Any, max_context: int) -> int:
    """Return the tokens a slot may hold: `max_context`, or fewer where the model has fewer positions.

    UserError for a model whose layers do not all attend to the whole context.
    """
    text = config.get_text_config()
    limit = min(max_context, getattr(text, "max_position_embeddings", None) or max_context)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    if window is not None and window >= limit:
        window, kinds = None, kinds - {"sliding_attention"} | {"full_attention"}
    is_recurrent = not getattr(text, "num_attention_heads", None)
    if window is not None or kinds != {"full_attention"} or is_recurrent:
        remedy = "use a model with full attention, or an engine that serves this one"
        kind = getattr(text, "model_type", "?")
        raise UserError("model.path", kind, "the hf engine cannot cache this model's attention", remedy)
    return limit
