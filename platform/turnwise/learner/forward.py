"""From token ids to log-probabilities of the trained tokens, without the logits of all the others.

Hidden states of positions that predict a trained token are selected before the vocabulary projection: for an agent most
tokens are observations, and logits are the largest array there is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from turnwise.errors import UserError

MAX_LOGITS = 1 << 28
"""Logits held at once; beyond it they are computed in pieces, and again in the backward pass."""


def selected_hidden(model: Any, ids: Tensor, select: Tensor) -> Tensor:
    """Return [n, width] last hidden states at flat positions `select` of `ids` [rows, length].

    Rows are padded on the right, so causal attention needs no mask.
    """
    hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, select)


def token_logprobs(
    model: Any, ids: Tensor, select: Tensor, targets: Tensor, *, temperature: float, entropy_gradient: bool = False
) -> tuple[Tensor, Tensor]:
    """Return [n] log-probabilities of `targets` and [n] entropies, float32, of softmax(logits / temperature).

    Entropies carry a gradient only if asked for.
    """
    hidden = selected_hidden(model, ids, select)
    head = model.get_output_embeddings()
    size = max(1, MAX_LOGITS // head.weight.shape[0])
    pieces = list(zip(torch.split(hidden, size), torch.split(targets, size), strict=True))
    if len(pieces) <= 1:
        return _from_hidden(head, hidden, targets, temperature, entropy_gradient)
    parts = [
        checkpoint(_from_hidden, head, *piece, temperature, entropy_gradient, use_reentrant=False) for piece in pieces
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def check_head(model: Any, model_path: str) -> None:
    """Compare the selected logits with the model's own; UserError for a head that is more than a projection."""
    device = model.get_output_embeddings().weight.device
    ids = torch.arange(1, 9, device=device).reshape(1, 8) % model.config.vocab_size
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits[0]
        ours = model.get_output_embeddings()(selected_hidden(model, ids, torch.arange(8, device=device)))
    if not torch.allclose(own, ours, rtol=1e-3, atol=1e-4):
        raise UserError(
            "model.path",
            model_path,
            "its logits are scaled or capped behind the projection",
            "use a model with a plain head",
        )


def _from_hidden(
    head: Any, hidden: Tensor, targets: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float()
    if temperature != 1.0:
        logits = logits / temperature
    logprobs = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        log_p = torch.log_softmax(logits if entropy_gradient else logits.detach(), dim=-1)
        entropies = -(log_p.exp() * log_p).sum(dim=-1)
    return logprobs, entropies
