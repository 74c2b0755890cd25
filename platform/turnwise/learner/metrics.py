"""What one update did, as numbers: collected by token over all micro-batches, reduced once at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from turnwise.learner import ActionTokens
from turnwise.learner.divergence import k1, k3
from turnwise.learner.objectives.ratio import ratio


@dataclass(slots=True)
class UpdateReport:
    """Detached per-token tensors and per-step numbers of one update."""

    columns: dict[str, list[Tensor]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    mismatches: list[Tensor] = field(default_factory=list)  # |lp_new - lp_sampler| before the first optimizer step
    num_empty: int = 0  # minibatches without a trained token

    def add_tokens(self, tokens: ActionTokens, per_token: Mapping[str, Tensor], is_fresh: Tensor) -> None:
        """Collect a micro-batch; `is_fresh` [n] marks tokens sampled by the weights that the update starts from."""
        new = tokens.logprobs.detach()
        columns = {
            "ratio": ratio(new - tokens.base),
            "approx_kl_k1": k1(tokens.sampler, new),
            "approx_kl_k3": k3(tokens.sampler, new),
            "entropy": tokens.entropies.detach(),
            **{name: values.detach() for name, values in per_token.items()},
        }
        if tokens.correction is not None:
            columns |= {"correction_weight": tokens.correction}
            columns |= {"correction_rejected": (tokens.correction == 0).to(tokens.correction.dtype)}
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        if not self.losses:
            self.mismatches.append((new - tokens.sampler).abs()[is_fresh])

    def add_step(self, loss: float, grad_norm: float) -> None:
        """Collect one optimizer step."""
        self.losses.append(loss)
        self.grad_norms.append(grad_norm)

    def metrics(self) -> dict[str, float]:
        """Return means over tokens and steps; what nothing is known of is left out."""
        merged = {name: torch.cat(values).double() for name, values in self.columns.items()}
        found = {f"learner/{name}": float(values.mean()) for name, values in merged.items() if name != "ratio"}
        if "ratio" in merged:
            ratios = merged["ratio"]
            found |= {"learner/ratio_min": float(ratios.min()), "learner/ratio_max": float(ratios.max())}
            found |= {"learner/ratio_mean": float(ratios.mean()), "learner/tokens": float(len(ratios))}
        mismatch = torch.cat(self.mismatches) if self.mismatches else torch.zeros(0)
        if len(mismatch):
            found |= {
                "learner/logprob_mismatch": float(mismatch.mean()),
                "learner/logprob_mismatch_max": float(mismatch.max()),
            }
        return found | _steps(self)


def _steps(report: UpdateReport) -> dict[str, float]:
    found = {"learner/steps": float(len(report.losses)), "learner/empty_minibatches": float(report.num_empty)}
    if report.losses:
        found["learner/loss"] = sum(report.losses) / len(report.losses)
        found["learner/grad_norm"] = sum(report.grad_norms) / len(report.grad_norms)
    return found
