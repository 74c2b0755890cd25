"""The gradient of one minibatch, micro-batch by micro-batch, equal to that of all tokens at once but for rounding.

Called by the learner. Where an objective couples tokens (one ratio a turn or trajectory, whose rows may lie in several
micro-batches) there are two passes: the first, without gradient, gives the objective all log-probabilities and asks for
the loss's derivative by each; the second sends those derivatives through the model. Ranks that share a minibatch's rows
would each do `accumulate` with weights of the whole minibatch, or the two passes with the log-probabilities gathered in
between, and add their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnwise.learner import ActionTokens, Objective, ObjectiveLoss
from turnwise.learner.divergence import ESTIMATORS
from turnwise.learner.microbatch import MicroBatch

Forward = Callable[[MicroBatch], tuple[Tensor, Tensor]]
"""From a micro-batch to the log-probabilities and entropies of its trained tokens."""

Collect = Callable[[slice, ActionTokens, Mapping[str, Tensor]], None]
"""Takes some of a minibatch's tokens (where they are among its n), and the objective's columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Minibatch:
    """The tokens of one optimizer step, before the model has seen them."""

    micros: Sequence[MicroBatch]
    columns: Mapping[str, Tensor]  # by field of `ActionTokens`, [n] in the order of the micro-batches
    progress: float  # share of the run's updates that are done

    def parts(self) -> Iterator[tuple[slice, MicroBatch]]:
        """Yield each micro-batch and the place of its tokens among the n."""
        start = 0
        for micro in self.micros:
            yield slice(start, start + len(micro.tokens)), micro
            start += len(micro.tokens)

    def tokens(self, part: slice, logprobs: Tensor, entropies: Tensor) -> ActionTokens:
        """Return the tokens of a part, as the objective sees them."""
        columns = {name: column[part] for name, column in self.columns.items()}
        return ActionTokens(
            logprobs=logprobs, held=logprobs.detach(), entropies=entropies, progress=self.progress, **columns
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyLoss:
    """An objective, and the pull towards the reference: + kl_coef * sum_t weight_t KL_t, where tokens have one."""

    objective: Objective
    kl_coef: float
    kl_estimator: str

    def __call__(self, tokens: ActionTokens) -> ObjectiveLoss:
        """Return the loss of the tokens given."""
        result = self.objective.loss(tokens)
        if tokens.reference is None:
            return result
        divergence = ESTIMATORS[self.kl_estimator](tokens.logprobs, tokens.reference)
        return ObjectiveLoss(
            loss=result.loss + self.kl_coef * (divergence * tokens.weights).sum(),
            per_token={**result.per_token, "reference_kl": divergence.detach()},
        )


def accumulate(loss: PolicyLoss, forward: Forward, minibatch: Minibatch, collect: Collect) -> Tensor:
    """Add a minibatch's gradient to the parameters' and return [] its loss, float64."""
    if loss.objective.is_coupled and len(minibatch.micros) > 1:
        return _accumulate_coupled(loss, forward, minibatch, collect)
    total: Tensor | None = None
    for part, micro in minibatch.parts():
        tokens = minibatch.tokens(part, *forward(micro))
        result = loss(tokens)
        result.loss.backward()  # type: ignore[no-untyped-call]
        collect(part, tokens, result.per_token)
        total = result.loss.detach().double() + (0.0 if total is None else total)
    assert total is not None, "a minibatch has tokens"
    return total


def seen(forward: Forward, minibatch: Minibatch) -> tuple[Tensor, Tensor]:
    """Return [n] log-probabilities and [n] entropies of all tokens, without gradient."""
    with torch.no_grad():
        pieces = [forward(micro) for micro in minibatch.micros]
    return torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces])


def derivatives(loss: PolicyLoss, tokens: ActionTokens) -> tuple[ObjectiveLoss, tuple[Tensor, Tensor]]:
    """Return the loss, and [n] its derivatives by log-probabilities and by entropies, which must be leaves."""
    result = loss(tokens)
    leaves = (tokens.logprobs, tokens.entropies)
    by_logprobs, by_entropies = torch.autograd.grad(result.loss, leaves, allow_unused=True, materialize_grads=True)
    return result, (by_logprobs, by_entropies)


def send_back(forward: Forward, minibatch: Minibatch, by_logprobs: Tensor, by_entropies: Tensor) -> None:
    """Send [n] derivatives through the model, into the parameters' gradients."""
    for part, micro in minibatch.parts():
        logprobs, entropies = forward(micro)
        outputs = [(logprobs, by_logprobs[part])]
        if entropies.requires_grad:
            outputs.append((entropies, by_entropies[part]))
        torch.autograd.backward([tensor for tensor, _ in outputs], [gradient for _, gradient in outputs])


def _accumulate_coupled(loss: PolicyLoss, forward: Forward, minibatch: Minibatch, collect: Collect) -> Tensor:
    logprobs, entropies = (tensor.requires_grad_() for tensor in seen(forward, minibatch))
    tokens = minibatch.tokens(slice(None), logprobs, entropies)
    result, (by_logprobs, by_entropies) = derivatives(loss, tokens)
    send_back(forward, minibatch, by_logprobs, by_entropies)
    collect(slice(None), tokens, result.per_token)
    return result.loss.detach().double()
