"""The configuration: one dataclass a part, composed into `RunConfig`. OmegaConf checks names and types against it.

A field's metadata has `doc`, its `Bounds`, and where the key only matters under a condition `only_if`: one or several
(dotted key, value) pairs, value `True` meaning "set to something". A key that the user gave without its condition is
refused. Sections marked `plugin=KIND` take `name` and the options of that plug-in's own `Config` dataclass, which may
use `key` too (a condition on a sister option is written without dots).
"""

# ruff: noqa: RUF009

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Condition = tuple[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The values that a key may take; of a list, its items. None: no such bound."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[str, ...] | None = None


def key(
    default: Any,
    doc: str,
    *,
    only_if: Condition | tuple[Condition, ...] | None = None,
    plugin: str | None = None,
    **bounds: Any,
) -> Any:
    """Return a dataclass field with default (a list, dict or class is a factory), documentation and `Bounds`."""
    conditions = (only_if,) if only_if is not None and isinstance(only_if[0], str) else (only_if or ())
    metadata = {"doc": doc, "only_if": conditions, "plugin": plugin, "bounds": Bounds(**bounds)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ModelConfig:
    """The policy."""

    path: str = key("tiny", "a folder in Hugging Face format, or a registered model's name")
    dtype: str = key("float32", "float32 or bfloat16", one_of=("float32", "bfloat16"))


@dataclass
class EnvConfig:
    """The world. Tasks are made from seeds unless the environment has a finite set."""

    id: str = key("turnwise/Search-v0", "a Gymnasium id; `package:Name-v0` imports the package first")
    kwargs: dict[str, Any] = key({}, "arguments of the environment's constructor")


@dataclass
class GuidedConfig:
    """Second attempts with guidance, for failed episodes of training groups."""

    share: float = key(
        0.0,
        "probability that a failed first attempt is followed by one with the environment's guidance; 0: never",
        at_least=0,
        at_most=1,
    )
    over: int = key(
        0,
        "updates over which that probability goes to `final`, linearly; 0: it stays",
        only_if=("rollout.guided.share", True),
        at_least=0,
    )
    final: float = key(
        0.0, "the probability from then on", only_if=("rollout.guided.over", True), at_least=0, at_most=1
    )
    per_group: int = key(4, "guided attempts of a group at most", only_if=("rollout.guided.share", True), at_least=1)


@dataclass
class RolloutConfig:
    """Episodes and how many at once."""

    workers: int = key(1, "rollout actors", at_least=1)
    slots: int = key(128, "concurrent episodes a worker", at_least=1)
    group_size: int = key(8, "episodes of one task", at_least=1)
    groups_per_update: int = key(16, "groups in one update's batch", at_least=1)
    max_staleness: int = key(0, "updates that a trained token may be behind; 0 is synchronous", at_least=0)
    max_attempts: int = key(3, "times that an episode is tried before it leaves its group", at_least=1)
    min_group_size: int = key(2, "a group with fewer complete episodes is dropped and counted", at_least=1)
    max_lost_threads: int = key(64, "threads lost to hanging environments before a worker is replaced", at_least=1)
    curriculum: int = key(
        0, "tasks of a pool that is repeated, from easy to hard by the success seen; 0: no pool", at_least=0
    )
    cpus_per_worker: float = key(0.0, "CPUs that Ray reserves for a worker", at_least=0)
    oracle: bool = key(
        False,
        "ask the environment's oracle about every action, before it is carried out: events on the channel `oracle`",
    )
    guided: GuidedConfig = key(GuidedConfig, "second attempts with guidance")


@dataclass
class TimeoutConfig:
    """Seconds that each stage may take."""

    reset_s: float = key(60.0, "environment reset", above=0)
    step_s: float = key(60.0, "environment step", above=0)
    generate_s: float = key(300.0, "one action from the engine", above=0)
    episode_s: float = key(1800.0, "a whole episode", above=0)
    score_s: float = key(120.0, "one scorer on one group, all attempts together", above=0)
    update_s: float = key(1800.0, "one learner update", above=0)
    weights_s: float = key(300.0, "one weight update of an engine", above=0)
    start_s: float = key(300.0, "the start of any actor", above=0)
    stall_s: float = key(600.0, "no finished episode, score or update for so long ends the run with an error", above=0)


@dataclass
class ScoringConfig:
    """How reward actors ask their scorers."""

    concurrency: int = key(
        32,
        "groups that a scorer which waits for others (a judge) has in work at once; other scorers have one",
        at_least=1,
        at_most=256,
    )
    queue: int = key(256, "groups that may wait in a reward actor; the rest waits before it", at_least=1, at_most=512)
    attempts: int = key(
        4, "times that a group is scored until it is scored whole, within timeouts.score_s", at_least=1, at_most=10
    )
    backoff_s: float = key(1.0, "pause before the second attempt; doubled for each further one", above=0)
    breaker_failures: int = key(
        8, "groups in a row that cannot be scored at all after which a scorer is left alone; 0: never", at_least=0
    )
    breaker_s: float = key(
        30.0, "seconds for which it is left alone", only_if=("scoring.breaker_failures", True), above=0
    )
    max_masked: float = key(
        0.5,
        "share of one scorer's scores of an update that may be masked by failures; more ends the run with an error",
        at_least=0,
        at_most=1,
    )


@dataclass
class SandboxConfig:
    """Where environments and scorers that run code get their sandboxes from."""

    pool: int = key(0, "actors that keep sandboxes for all workers; 0: each worker opens its own", at_least=0)
    warm: int = key(
        8, "sandboxes that a pool has open before they are wanted", only_if=("sandbox.pool", True), at_least=0
    )
    max_open: int = key(128, "sandboxes of a pool, at most", only_if=("sandbox.pool", True), at_least=1)
    starts_at_once: int = key(4, "starts of a pool at once", only_if=("sandbox.pool", True), at_least=1)
    starts_per_s: float = key(
        20.0,
        "starts of a pool in a second; Docker bears about 5 on two cores",
        only_if=("sandbox.pool", True),
        above=0,
    )
    execs_at_once: int = key(32, "commands of a pool at once", only_if=("sandbox.pool", True), at_least=1)
    lease_s: float = key(
        8.0, "silence of its holder after which a sandbox is taken back", only_if=("sandbox.pool", True), at_least=1
    )


@dataclass
class CreditConfig:
    """From scores to advantages."""

    channels: dict[str, float] = key({"outcome": 1.0}, "weights of the reward channels that are used")
    select: list[Any] = key(
        [], "selections of what is trained on, applied in order, each {name: ..., options}", plugin="select"
    )
    max_batches: int = key(
        10,
        "batches' worth of groups that may be scored for one batch before too little is left of them",
        only_if=("credit.select", True),
        at_least=1,
    )
    fuse: list[Any] = key([], "fusions applied in order, each {name: ..., options}", plugin="fuse")
    estimator: dict[str, Any] = key(
        {"name": "turnwise"}, "the advantage estimator, {name: ..., options}", plugin="estimator"
    )
    scale: str | None = key(
        None,
        "the size of advantages: none leaves them, group divides each group's by their root mean square over episodes;"
        " null: group for `turnwise` and `turn_loo`, none for the others",
        one_of=("none", "group"),
    )


@dataclass
class LearnerConfig:
    """Policy updates."""

    updates: int = key(40, "updates in all", at_least=0)
    lr: float = key(3e-4, "peak learning rate of AdamW", above=0)
    schedule: str = key("constant", "constant or cosine", one_of=("constant", "cosine"))
    min_lr_fraction: float = key(
        0.1, "last learning rate over the peak", only_if=("learner.schedule", "cosine"), at_least=0, at_most=1
    )
    warmup_updates: int = key(0, "updates over which the learning rate rises from 0", at_least=0)
    betas: list[float] = key([0.9, 0.95], "AdamW's betas", at_least=0, below=1)
    weight_decay: float = key(0.0, "AdamW's weight decay", at_least=0)
    max_grad_norm: float = key(1.0, "gradients are clipped to this norm", above=0)
    minibatches: int = key(2, "optimizer steps a pass over the batch", at_least=1)
    epochs: int = key(1, "passes over a batch", at_least=1)
    micro_batch_tokens: int = key(16384, "padded tokens in one forward pass", at_least=1)
    objective: dict[str, Any] = key({"name": "ppo"}, "the policy objective, {name: ..., options}", plugin="objective")
    correction: dict[str, Any] = key(
        {"name": "none"},
        "weights against the mismatch of sampler and learner, {name: ..., options}",
        plugin="correction",
    )
    kl_coef: float = key(0.0, "coefficient of the KL term, towards the model that the run began with", at_least=0)
    kl_estimator: str = key(
        "k3", "estimator of the KL term", only_if=("learner.kl_coef", True), one_of=("k1", "k2", "k3")
    )
    threads: int = key(2, "CPU threads", at_least=1)


@dataclass
class SftConfig:
    """The supervised warm start on demonstrations, recorded or from files; 0 steps: none."""

    steps: int = key(0, "optimizer steps", at_least=0)
    batch_size: int = key(64, "demonstrations a step", only_if=("sft.steps", True), at_least=1)
    lr: float = key(1e-3, "peak learning rate, cosine to a tenth", only_if=("sft.steps", True), above=0)
    demonstrations: int | None = key(
        None,
        "episodes of the environment's own demonstrator to record; seen again when steps need more;"
        " null: 2048, or with sft.files none",
        only_if=("sft.steps", True),
        at_least=0,
    )
    files: list[str] = key([], "JSONL files of demonstrations to imitate besides", only_if=("sft.steps", True))
    env_kwargs: dict[str, Any] = key(
        {},
        "changes of env.kwargs while demonstrations are recorded",
        only_if=(("sft.steps", True), ("sft.demonstrations", True)),
    )


@dataclass
class EvalConfig:
    """Held-out tasks, measured before and after training."""

    tasks: int = key(200, "held-out tasks; 0: no evaluation", at_least=0)
    every: int = key(
        0, "also after every so many updates; 0: only before and after", only_if=("eval.tasks", True), at_least=0
    )
    modes: list[str] = key(
        ["sampled", "greedy"], "sampled, greedy or both", only_if=("eval.tasks", True), one_of=("sampled", "greedy")
    )
    success_channel: str = key("outcome", "the channel whose sum decides success, in training too")
    success_threshold: float = key(0.5, "success if the channel's sum exceeds it")
    evidence_channel: str | None = key(
        None,
        "the channel of events whose sum of 1 says that a held-out success shows all its evidence; null: not reported",
        only_if=("eval.tasks", True),
    )


@dataclass
class CheckpointConfig:
    """Hugging Face folders from which a run resumes; 0: only the last."""

    every: int = key(10, "updates between checkpoints; 0: only at the end", at_least=0)
    keep: int = key(2, "newest checkpoints kept", at_least=1)


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
    """The cluster. Where RAY_ADDRESS names one to join (a Ray job), keys of one to be started are unused."""

    address: str | None = key(None, "cluster to join; none: start one on this machine")
    dashboard: bool = key(True, "start the dashboard", only_if=("ray.address", None))
    dashboard_port: int = key(8265, "its port", only_if=("ray.dashboard", True), at_least=1, at_most=65535)
    num_cpus: int | None = key(
        None, "CPUs of the cluster to be started; none: all", only_if=("ray.address", None), at_least=1
    )
    engine_gpus: float = key(0.0, "GPUs reserved for each engine", at_least=0)
    learner_gpus: float = key(0.0, "GPUs reserved for the learner", at_least=0)


@dataclass
class RunConfig:
    """Everything that `turnwise train` needs."""

    name: str = key("run", "the run's name; its folder is runs_dir/name")
    runs_dir: str = key("runs", "where run folders are made")
    seed: int = key(0, "decides tasks, demonstrations, sampling and the order of minibatches", at_least=0, below=2**31)
    resume: bool = key(False, "go on with an existing run of this name")
    model: ModelConfig = key(ModelConfig, "the policy")
    env: EnvConfig = key(EnvConfig, "the world")
    agent: dict[str, Any] = key(
        {"name": "chat"}, "how the policy reads and writes, {name: ..., options}", plugin="agent"
    )
    engine: dict[str, Any] = key({"name": "hf"}, "what samples, {name: ..., options}", plugin="engine")
    rewards: list[Any] = key([{"name": "events"}], "scorers, each {name: ..., options}", plugin="scorer")
    scoring: ScoringConfig = key(ScoringConfig, "how scorers are asked")
    rollout: RolloutConfig = key(RolloutConfig, "episodes")
    sandbox: SandboxConfig = key(SandboxConfig, "where code runs")
    credit: CreditConfig = key(CreditConfig, "advantages")
    learner: LearnerConfig = key(LearnerConfig, "updates")
    sft: SftConfig = key(SftConfig, "warm start")
    eval: EvalConfig = key(EvalConfig, "measurement")
    checkpoint: CheckpointConfig = key(CheckpointConfig, "saving")
    log: LogConfig = key(LogConfig, "reporting")
    timeouts: TimeoutConfig = key(TimeoutConfig, "limits on time")
    ray: RayConfig = key(RayConfig, "the cluster")
