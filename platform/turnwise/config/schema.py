"""The configuration: one dataclass a part, composed into `RunConfig`. OmegaConf checks names and types against it.

A field's metadata has `doc`, and where the key only matters under a condition `only_if`: a (dotted key, value) pair, value
`True` meaning "set to something". A key that the user gave without its condition is refused. Sections marked
`plugin=KIND` take `name` and the options of that plug-in's own `Config` dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def key(default: Any, doc: str, *, only_if: tuple[str, Any] | None = None, plugin: str | None = None) -> Any:
    """Return a dataclass field with a default (a list, dict or class is a factory) and its documentation."""
    metadata = {"doc": doc, "only_if": only_if, "plugin": plugin}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ModelConfig:
    """The policy."""

    path: str = key("tiny", "a folder in Hugging Face format, or a registered model's name")
    dtype: str = key("float32", "float32 or bfloat16")


@dataclass
class EnvConfig:
    """The world. Tasks are made from seeds unless the environment has a finite set."""

    id: str = key("turnwise/Search-v0", "a Gymnasium id; `package:Name-v0` imports the package first")
    kwargs: dict[str, Any] = key({}, "arguments of the environment's constructor")


@dataclass
class RolloutConfig:
    """Episodes and how many at once."""

    workers: int = key(1, "rollout actors")
    slots: int = key(128, "concurrent episodes a worker")
    group_size: int = key(8, "episodes of one task")
    groups_per_update: int = key(16, "groups in one update's batch")
    max_staleness: int = key(0, "updates that a trained token may be behind; 0 is synchronous")
    max_attempts: int = key(3, "times that an episode is tried before it leaves its group")
    min_group_size: int = key(2, "a group with fewer complete episodes is dropped and counted")
    max_lost_threads: int = key(64, "threads lost to hanging environments before a worker is replaced")
    cpus_per_worker: float = key(0.0, "CPUs that Ray reserves for a worker")


@dataclass
class TimeoutConfig:
    """Seconds that each stage may take."""

    reset_s: float = key(60.0, "environment reset")
    step_s: float = key(60.0, "environment step")
    generate_s: float = key(300.0, "one action from the engine")
    episode_s: float = key(1800.0, "a whole episode")
    score_s: float = key(120.0, "one scorer on one group")
    update_s: float = key(1800.0, "one learner update")
    weights_s: float = key(300.0, "one weight update of an engine")
    start_s: float = key(300.0, "the start of any actor")
    stall_s: float = key(600.0, "no finished episode, score or update for so long ends the run with an error")


@dataclass
class CreditConfig:
    """From scores to advantages."""

    channels: dict[str, float] = key({"outcome": 1.0}, "weights of the reward channels that are used")
    fuse: list[Any] = key([], "fusions applied in order, each {name: ..., options}", plugin="fuse")
    estimator: dict[str, Any] = key({"name": "turn_loo"}, "the advantage estimator, {name: ..., options}", plugin="estimator")


@dataclass
class LearnerConfig:
    """Policy updates."""

    updates: int = key(40, "updates in all")
    lr: float = key(3e-4, "peak learning rate of AdamW")
    schedule: str = key("constant", "constant or cosine")
    min_lr_fraction: float = key(0.1, "last learning rate over the peak", only_if=("learner.schedule", "cosine"))
    warmup_updates: int = key(0, "updates over which the learning rate rises from 0")
    betas: list[float] = key([0.9, 0.95], "AdamW's betas")
    weight_decay: float = key(0.0, "AdamW's weight decay")
    max_grad_norm: float = key(1.0, "gradients are clipped to this norm")
    minibatches: int = key(2, "optimizer steps an update")
    epochs: int = key(1, "passes over a batch")
    micro_batch_tokens: int = key(16384, "padded tokens in one forward pass")
    objective: dict[str, Any] = key({"name": "ppo"}, "the policy objective, {name: ..., options}", plugin="objective")
    threads: int = key(2, "CPU threads")


@dataclass
class SftConfig:
    """The supervised warm start on the environment's own demonstrations; 0 steps: none."""

    steps: int = key(0, "optimizer steps")
    batch_size: int = key(64, "demonstrations a step", only_if=("sft.steps", True))
    lr: float = key(1e-3, "peak learning rate, cosine to a tenth", only_if=("sft.steps", True))
    demonstrations: int = key(2048, "episodes to record; seen again when steps need more", only_if=("sft.steps", True))
    path: str | None = key(None, "JSONL file of recorded demonstrations instead", only_if=("sft.steps", True))
    env_kwargs: dict[str, Any] = key({}, "changes of env.kwargs while demonstrations are recorded", only_if=("sft.steps", True))


@dataclass
class EvalConfig:
    """Held-out tasks, measured before and after training."""

    tasks: int = key(200, "held-out tasks; 0: no evaluation")
    every: int = key(0, "also after every so many updates; 0: only before and after", only_if=("eval.tasks", True))
    modes: list[str] = key(["sampled", "greedy"], "sampled, greedy or both", only_if=("eval.tasks", True))
    success_channel: str = key("outcome", "the channel whose sum decides success", only_if=("eval.tasks", True))
    success_threshold: float = key(0.5, "success if the channel's sum exceeds it", only_if=("eval.tasks", True))


@dataclass
class CheckpointConfig:
    """Hugging Face folders from which a run resumes; 0: only the last."""

    every: int = key(10, "updates between checkpoints; 0: only at the end")
    keep: int = key(2, "newest checkpoints kept")


@dataclass
class LogConfig:
    """Where metrics go besides `metrics.jsonl`."""

    tensorboard: bool = key(True, "write event files")
    wandb: bool = key(False, "log to Weights & Biases (needs the package)")
    wandb_project: str = key("turnwise", "its project", only_if=("log.wandb", True))
    progress: bool = key(True, "live display in the terminal")
    trajectories: bool = key(True, "store trajectories and scores as Parquet")


@dataclass
class RayConfig:
    """The cluster."""

    address: str | None = key(None, "cluster to join; none: start one on this machine")
    dashboard: bool = key(True, "start the dashboard", only_if=("ray.address", None))
    dashboard_port: int = key(8265, "its port", only_if=("ray.dashboard", True))
    num_cpus: int | None = key(None, "CPUs of the cluster to be started; none: all", only_if=("ray.address", None))
    engine_gpus: float = key(0.0, "GPUs reserved for each engine")
    learner_gpus: float = key(0.0, "GPUs reserved for the learner")


@dataclass
class RunConfig:
    """Everything that `turnwise train` needs."""

    name: str = key("run", "the run's name; its folder is runs_dir/name")
    runs_dir: str = key("runs", "where run folders are made")
    seed: int = key(0, "decides tasks, sampling and initial weights of new parts")
    resume: bool = key(False, "go on with an existing run of this name")
    model: ModelConfig = key(ModelConfig, "the policy")
    env: EnvConfig = key(EnvConfig, "the world")
    agent: dict[str, Any] = key({"name": "chat"}, "how the policy reads and writes, {name: ..., options}", plugin="agent")
    engine: dict[str, Any] = key({"name": "hf"}, "what samples, {name: ..., options}", plugin="engine")
    rewards: list[Any] = key([{"name": "events"}], "scorers, each {name: ..., options}", plugin="scorer")
    rollout: RolloutConfig = key(RolloutConfig, "episodes")
    credit: CreditConfig = key(CreditConfig, "advantages")
    learner: LearnerConfig = key(LearnerConfig, "updates")
    sft: SftConfig = key(SftConfig, "warm start")
    eval: EvalConfig = key(EvalConfig, "measurement")
    checkpoint: CheckpointConfig = key(CheckpointConfig, "saving")
    log: LogConfig = key(LogConfig, "reporting")
    timeouts: TimeoutConfig = key(TimeoutConfig, "limits on time")
    ray: RayConfig = key(RayConfig, "the cluster")
