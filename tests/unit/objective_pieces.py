"""What the objectives' tests share: the worked batch as action tokens, and a bigram policy whose gradient is exact."""

import dataclasses

import numpy as np
import torch
from golden_cases import BATCH, MASK
from learner_pieces import VOCABULARY, make_batch

from turnwise.learner import ActionTokens
from turnwise.learner.fixed import fixed_columns
from turnwise.learner.gradient import Minibatch, PolicyLoss
from turnwise.learner.microbatch import split, trained_lengths
from turnwise.registry import lookup, names

OBJECTIVES = names("objective")
CORRECTIONS = names("correction")

TRAJECTORIES = np.repeat(np.arange(len(MASK)), MASK.sum(axis=1))
TURNS = np.asarray(BATCH["concat_turn_id"])[MASK] + 10 * TRAJECTORIES


def of_batch(name):
    """Return [n] one of the worked batch's arrays, of its action tokens."""
    return torch.tensor(np.asarray(BATCH[name])[MASK], dtype=torch.float64)


def groups():
    return torch.tensor(TRAJECTORIES), torch.tensor(TURNS)


def action_tokens(objective, advantages, *, logprobs=None, base="old_logp", sampler="old_logp", correction=None):
    """Return the worked batch's tokens with the objective's own weights, in float64."""
    logprobs = of_batch("new_logp") if logprobs is None else logprobs
    trajectories, turns = groups()
    return ActionTokens(
        logprobs=logprobs,
        held=logprobs.detach(),
        entropies=torch.zeros_like(logprobs),
        sampler=of_batch(sampler),
        base=of_batch(base),
        advantages=torch.tensor(np.asarray(advantages)[MASK], dtype=torch.float64),
        weights=torch.tensor(objective.token_weights(TRAJECTORIES, TURNS)).double(),
        trajectories=trajectories,
        turns=turns,
        correction=correction,
    )


def built(kind, name, **options):
    """Return a plug-in with the defaults of its options, changed by `options`."""
    found = lookup(kind, name)
    return found(found.Config(**options)) if hasattr(found, "Config") else found()


class Bigram:
    """A policy that looks at one token: log pi(b | a) = log softmax(table[a])[b], in float64."""

    def __init__(self, seed=0):
        table = np.random.default_rng(seed).normal(scale=0.7, size=(VOCABULARY, VOCABULARY))
        self.table = torch.tensor(table, requires_grad=True)

    def forward(self, micro):
        ids, select, targets = (torch.from_numpy(each) for each in (micro.ids, micro.select, micro.targets))
        log_p = torch.log_softmax(self.table[ids.reshape(-1)[select]], dim=-1)
        return log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=-1)

    def logprobs(self, batch):
        """Return [T] log-probabilities of the batch's trained tokens; 0 elsewhere."""
        found = np.zeros(len(batch.ids))
        for micro in micros_of(batch, 10_000):
            found[micro.tokens] = self.forward(micro)[0].detach().numpy()
        return found


def micros_of(batch, max_tokens):
    return list(split(batch, np.flatnonzero(trained_lengths(batch) > 0), max_tokens))


def near(seed=0, away=0.3):
    """Return a policy, and a batch whose sampler and proximal policy are `away` from it; trajectory 0 has two rows."""
    policy = Bigram()
    batch = make_batch(seed, num_trajectories=5)
    noise = np.random.default_rng(seed).normal(scale=away, size=(2, len(batch.ids)))
    logprobs = policy.logprobs(batch)
    proximal = np.where(batch.loss_mask, logprobs + noise[0], 0.0)
    return policy, dataclasses.replace(batch, logprobs=np.where(batch.loss_mask, proximal + noise[1], 0.0)), proximal


def minibatch(objective, correction, batch, proximal, max_tokens, reference=None):
    """Return the whole batch as one minibatch of micro-batches, as the learner makes it, in float64."""
    micros = micros_of(batch, max_tokens)
    places = np.concatenate([micro.tokens for micro in micros])
    columns = fixed_columns(batch, correction, lambda _: proximal, reference)
    columns = {name: column[places] for name, column in columns.items()}
    columns["weights"] = objective.token_weights(columns["trajectories"], columns["turns"])
    exact = ("sampler", "base", "advantages", "weights", "correction", "reference")
    tensors = {name: torch.tensor(c, dtype=torch.float64 if name in exact else None) for name, c in columns.items()}
    return Minibatch(micros=micros, columns=tensors, progress=0.5)


def policy_loss(objective, kl_coef=0.0, kl_estimator="k3"):
    return PolicyLoss(objective=objective, kl_coef=kl_coef, kl_estimator=kl_estimator)
