"""`Learner`: the policy's weights and the two things that change them, reinforcement updates and supervised ones.

The Ray actor `turnwise.learner.actor` owns one; tests and scripts use it as it is. The model stays in evaluation mode:
dropout would make log-probabilities that the sampler never had. Weights are kept and updated in float32 whatever
`dtype` says: bfloat16 loses small steps. On a CPU, equal inputs, threads and machine give equal bits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from turnwise.config.schema import LearnerConfig
from turnwise.engine.checksum import checksum
from turnwise.errors import NumericsError, UserError
from turnwise.learner import ActionTokens
from turnwise.learner.build import build_objective
from turnwise.learner.fixed import Column, fixed_columns
from turnwise.learner.folder import PROGRESS_FILE, copy_tokenizer, load_model, read_progress, write_progress
from turnwise.learner.forward import check_head, token_logprobs
from turnwise.learner.gradient import Minibatch, PolicyLoss, accumulate
from turnwise.learner.metrics import UpdateReport
from turnwise.learner.microbatch import Indices, MicroBatch, PackedRows, deal, split
from turnwise.learner.schedule import learning_rate
from turnwise.learner.weights import exported, load_optimizer, restore_weights, save_optimizer
from turnwise.records import Batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Learner:
    """A policy in training; `version` is the number of updates done."""

    def __init__(
        self,
        model_path: str | Path,
        config: LearnerConfig,
        *,
        dtype: str = "float32",
        seed: int = 0,
        temperature: float = 1.0,
        device: str | None = None,
    ) -> None:
        """Load the model from a folder in Hugging Face format.

        `temperature` is the rollout's: log-probabilities are those of softmax(logits / temperature). UserError for a
        folder, dtype, temperature or objective that cannot be used.
        """
        if dtype not in DTYPES:
            raise UserError("model.dtype", dtype, "no such dtype", f"one of: {', '.join(DTYPES)}")
        if not temperature > 0.0:
            raise UserError("temperature", temperature, "log-probabilities need a temperature above 0", "sample at 1.0")
        self.config, self.version, self.num_sft_steps = config, 0, 0
        self._path, self._seed, self._temperature, self._dtype = Path(model_path), seed, temperature, DTYPES[dtype]
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = load_model(self._path).to(self.device)
        check_head(self.model, str(model_path))
        objective, self._correction = build_objective(config)
        self._loss = PolicyLoss(objective=objective, kl_coef=config.kl_coef, kl_estimator=config.kl_estimator)
        self._reference: Any = None  # the model that the run began with, once an update has asked for it
        self._optimizer = self._new_optimizer()
        self._sft_optimizer: torch.optim.Optimizer | None = None

    def update(self, batch: Batch) -> dict[str, float]:
        """Do one update (`epochs` passes in `minibatches` optimizer steps each) and return its metrics.

        NumericsError for a loss or gradient that is not finite: weights, optimizer and version are then as before.
        """
        _check_finite(batch)
        self._sft_optimizer = None
        lr = learning_rate(self.config, self.version)
        report = UpdateReport()
        fixed = fixed_columns(
            batch, self._correction, self._proximal_logprobs, self._reference_logprobs if self.config.kl_coef else None
        )
        before = self._snapshot() if self.config.minibatches * self.config.epochs > 1 else None
        try:
            for epoch in range(self.config.epochs):
                for rows in deal(batch, self.config.minibatches, (self._seed, self.version, epoch)):
                    self._policy_step(batch, fixed, rows, lr, report)
        except NumericsError:
            self._restore(before)
            raise
        self.version += 1
        return {**report.metrics(), "learner/lr": lr}

    def sft_update(self, packed: PackedRows, lr: float) -> float:
        """Do one supervised step on all rows and return the loss: nats a trained token, at temperature 1.

        Its optimizer is its own, lives until the first `update`, and is in no checkpoint. NumericsError as in `update`.
        """
        self._sft_optimizer = self._sft_optimizer or self._new_optimizer()
        num_tokens = int(packed.loss_mask.sum())
        if num_tokens == 0:
            raise ValueError("no token to train on")
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for micro in self._micros(packed):
            logprobs, _ = self._forward(micro, temperature=1.0)
            loss = -logprobs.sum() / num_tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self._step(self._sft_optimizer, lr, float(total))
        self.num_sft_steps += 1
        return float(total)

    def export(self) -> tuple[int, str, dict[str, NDArray[np.generic]]]:
        """Return version, checksum and copies of all weights in the engine's dtype, tied ones once."""
        state = exported(self.model, self._dtype)
        return self.version, checksum(state), state

    def save(self, folder: str | Path) -> None:
        """Write model, tokenizer, optimizer and progress into a folder; complete only when this returns.

        `RunFolder.new_checkpoint` hides it from readers until then.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        copy_tokenizer(self._path, folder)
        save_optimizer(self.model, self._optimizer, folder / "optimizer.safetensors")
        # the only randomness is the dealing of minibatches, a function of seed, version and epoch
        write_progress(folder, {"version": self.version, "num_sft_steps": self.num_sft_steps, "seed": self._seed})

    def load(self, folder: str | Path) -> None:
        """Go on exactly where `save` was; UserError for a folder that is not a checkpoint of this model."""
        folder = Path(folder)
        progress = read_progress(folder)
        try:
            restore_weights(self.model, load_model(folder))
        except ValueError as error:
            raise UserError(
                "model.path", folder, str(error), "resume with the model that the run began with"
            ) from error
        load_optimizer(self.model, self._optimizer, folder / "optimizer.safetensors")
        self.version, self.num_sft_steps = int(progress["version"]), int(progress["num_sft_steps"])
        self._seed = int(progress["seed"])

    def status(self) -> dict[str, Any]:
        """Return what a person wants to know of a learner."""
        return {
            "version": self.version,
            "sft_steps": self.num_sft_steps,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
        }

    def _policy_step(
        self, batch: Batch, fixed: dict[str, Column], rows: Indices, lr: float, report: UpdateReport
    ) -> None:
        micros = list(split(batch, rows, self.config.micro_batch_tokens)) if len(rows) else []
        if not micros:
            report.num_empty += 1
            return
        places = np.concatenate([micro.tokens for micro in micros])
        columns = {name: column[places] for name, column in fixed.items()}
        columns["weights"] = self._loss.objective.token_weights(columns["trajectories"], columns["turns"])
        minibatch = Minibatch(
            micros=micros,
            columns={name: self._tensor(column) for name, column in columns.items()},
            progress=min(1.0, self.version / max(1, self.config.updates - 1)),
        )
        is_fresh = self._tensor(batch.versions[places] == self.version)

        def collect(part: slice, tokens: ActionTokens, per_token: Mapping[str, torch.Tensor]) -> None:
            report.add_tokens(tokens, per_token, is_fresh[part])

        total = float(accumulate(self._loss, self._policy_forward, minibatch, collect))
        report.add_step(total, self._step(self._optimizer, lr, total))

    def _policy_forward(self, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        needs_entropy = self._loss.objective.needs_entropy
        return self._forward(micro, temperature=self._temperature, entropy_gradient=needs_entropy)

    def _forward(
        self, micro: MicroBatch, *, temperature: float, entropy_gradient: bool = False, model: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids, select, targets = (self._tensor(array) for array in (micro.ids, micro.select, micro.targets))
        with self._autocast():
            return token_logprobs(
                model or self.model, ids, select, targets, temperature=temperature, entropy_gradient=entropy_gradient
            )

    def _proximal_logprobs(self, batch: Batch) -> Column:
        return self._logprobs(self.model, batch)

    def _reference_logprobs(self, batch: Batch) -> Column:
        if self._reference is None:
            self._reference = self._starting_model()
        return self._logprobs(self._reference, batch)

    def _logprobs(self, model: Any, batch: Batch) -> Column:
        """Return [T] log-probabilities of the trained tokens under a model, without gradient; 0 elsewhere."""
        found = np.zeros(len(batch.ids), dtype=np.float32)
        for micro in self._micros(batch):
            with torch.no_grad():
                logprobs, _ = self._forward(micro, temperature=self._temperature, model=model)
            found[micro.tokens] = logprobs.cpu().numpy()
        return found

    def _micros(self, packed: PackedRows) -> Iterator[MicroBatch]:
        return split(packed, np.arange(len(packed.row_offsets) - 1), self.config.micro_batch_tokens)

    def _starting_model(self) -> Any:
        """Return the model that the run began with: this one before its first update, else what it was loaded from."""
        if self.version == 0:
            return copy.deepcopy(self.model).requires_grad_(False)
        if self.num_sft_steps:
            _check_warm_start(self._path, self.num_sft_steps)
        return load_model(self._path).to(self.device).requires_grad_(False)

    def _step(self, optimizer: torch.optim.Optimizer, lr: float, loss: float) -> float:
        """Clip, step and clear the gradients; return their norm before clipping."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not (np.isfinite(loss) and bool(torch.isfinite(norm))):
            optimizer.zero_grad()
            raise NumericsError(
                f"loss {loss} with gradient norm {float(norm)} after update {self.version}: step refused"
            )
        torch.nn.utils.clip_grads_with_norm_(parameters, self.config.max_grad_norm, norm)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
        return float(norm)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        first, second = self.config.betas
        return torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.lr,
            betas=(first, second),
            weight_decay=self.config.weight_decay,
            fused=True,
        )

    def _snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Copy weights and optimizer: three times the weights' memory, for the length of an update of several steps."""
        return copy.deepcopy(self.model.state_dict()), copy.deepcopy(self._optimizer.state_dict())

    def _restore(self, before: tuple[dict[str, Any], dict[str, Any]] | None) -> None:
        if before is not None:
            self.model.load_state_dict(before[0])
            self._optimizer.load_state_dict(before[1])

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _check_finite(batch: Batch) -> None:
    """Refuse bad inputs by name; an infinite log-probability would otherwise vanish in the clamped ratio."""
    for name in ("logprobs", "advantages"):
        bad = np.flatnonzero(~np.isfinite(getattr(batch, name)) & batch.loss_mask)
        if len(bad):
            row = int(np.searchsorted(batch.row_offsets, bad[0], side="right")) - 1
            place = f"turn {batch.turn_ids[bad[0]]} of the batch's trajectory {batch.row_trajectories[row]}"
            raise NumericsError(
                f"{len(bad)} of {batch.num_loss_tokens} {name} in the batch are not finite, the first at {place}"
            )


def _check_warm_start(path: Path, num_sft_steps: int) -> None:
    """Refuse as the reference a model that is not the warm-started one that the run began with."""
    found = int(read_progress(path)["num_sft_steps"]) if (path / PROGRESS_FILE).is_file() else 0
    if found != num_sft_steps:
        problem = f"has {found} steps of warm start; the KL term needs the model after {num_sft_steps}"
        raise UserError("model.path", path, problem, "resume with the run's warm-started model, or set kl_coef to 0")
