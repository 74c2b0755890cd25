"""Values that make no sense, alone or together, although each has the right type. Nothing here looks at the world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from turnwise.config.credit_checks import check_credit
from turnwise.config.keys import KeySpec, shown
from turnwise.config.schema import Bounds, RunConfig, ScoringConfig
from turnwise.errors import UserError
from turnwise.registry import lookup
from turnwise.reward import Late
from turnwise.reward.calls import is_async


def check_bounds(values: Mapping[str, Any], known: Mapping[str, KeySpec]) -> None:
    """Refuse the first value (or item of a list, or of a mapping to numbers) outside its bounds."""
    for key, spec in known.items():
        for name, item in _items(key, values.get(key), spec):
            problem = _problem(item, spec.bounds)
            if problem is not None:
                raise UserError(name, shown(name, item), *problem)


def check_together(config: RunConfig, estimator: type) -> None:
    """Refuse combinations that cannot work; `estimator` is the class that `credit.estimator` names."""
    _check_groups(config, bool(getattr(estimator, "needs_group", False)))
    _check_guided(config, bool(getattr(estimator, "needs_group", False)))
    check_credit(config, estimator)
    _check_learner(config)
    _check_scoring(config)
    _check_sandbox(config)
    _check_sft(config)
    if config.eval.tasks and not config.eval.modes:
        raise UserError("eval.modes", "[]", "no mode of evaluation", "use [sampled, greedy] or set eval.tasks=0")
    if len(set(config.eval.modes)) < len(config.eval.modes):
        raise UserError("eval.modes", config.eval.modes, "names a mode twice", "name each once")
    if not config.rewards:
        raise UserError("rewards", "[]", "no scorer, so nothing would be learnt", "use [{name: events}]")


def _check_groups(config: RunConfig, needs_group: bool) -> None:
    rollout, estimator = config.rollout, config.credit.estimator["name"]
    if needs_group and rollout.group_size < 2:
        problem = f"the estimator {estimator} compares the episodes of a group, so one alone teaches nothing"
        raise UserError(
            "rollout.group_size", rollout.group_size, problem, "use at least 2, or another credit.estimator"
        )
    wanted = config.credit.estimator.get("min_group", 0)
    if wanted > rollout.group_size:
        problem = f"the estimator {estimator} leaves out smaller groups, and rollout.group_size={rollout.group_size}"
        remedy = f"use at most {rollout.group_size}, or a larger rollout.group_size"
        raise UserError("credit.estimator.min_group", wanted, problem, remedy)
    if rollout.min_group_size > rollout.group_size:
        problem = f"exceeds rollout.group_size={rollout.group_size}, so every group would be dropped"
        raise UserError("rollout.min_group_size", rollout.min_group_size, problem, f"use at most {rollout.group_size}")
    if 0 < rollout.curriculum < rollout.groups_per_update:
        problem = f"a batch of rollout.groups_per_update={rollout.groups_per_update} groups would hold a task twice"
        raise UserError(
            "rollout.curriculum", rollout.curriculum, problem, f"use at least {rollout.groups_per_update}, or 0"
        )


def _check_guided(config: RunConfig, needs_group: bool) -> None:
    guided, size = config.rollout.guided, config.rollout.group_size
    if not guided.share:
        return
    if needs_group and guided.per_group < 2:
        problem = "guided attempts are compared with each other only, so one alone teaches nothing"
        raise UserError("rollout.guided.per_group", guided.per_group, problem, "use at least 2")
    if guided.per_group > size:
        problem = f"exceeds rollout.group_size={size}: each guided attempt follows another episode"
        raise UserError("rollout.guided.per_group", guided.per_group, problem, f"use at most {size}")


def _items(key: str, value: Any, spec: KeySpec) -> list[tuple[str, Any]]:
    if isinstance(value, list):
        return [(key, item) for item in value]
    if isinstance(value, dict) and spec.hint == dict[str, float]:
        return [(f"{key}.{name}", item) for name, item in value.items()]
    return [(key, value)]


def _check_learner(config: RunConfig) -> None:
    learner, episodes = config.learner, config.rollout.groups_per_update * config.rollout.group_size
    if learner.minibatches > episodes:
        problem = f"more optimizer steps than the {episodes} episodes of an update"
        raise UserError("learner.minibatches", learner.minibatches, problem, f"use at most {episodes}")
    if len(learner.betas) != 2:
        raise UserError("learner.betas", learner.betas, "AdamW takes two", "use [0.9, 0.95]")
    if learner.warmup_updates > learner.updates:
        problem = f"exceeds learner.updates={learner.updates}"
        raise UserError("learner.warmup_updates", learner.warmup_updates, problem, f"use at most {learner.updates}")


def _check_scoring(config: RunConfig) -> None:
    """Refuse what was changed without effect; whether a scorer waits for others says its class."""
    scoring, plain = config.scoring, ScoringConfig()
    if scoring.attempts == 1 and scoring.backoff_s != plain.backoff_s:
        problem, remedy = "has no effect because scoring.attempts=1", "remove it or set scoring.attempts"
        raise UserError("scoring.backoff_s", scoring.backoff_s, problem, remedy)
    kinds = [lookup("scorer", str(section["name"])) for section in config.rewards]
    has_async = any(is_async(kind) or isinstance(kind, Late) for kind in kinds)
    if scoring.concurrency != plain.concurrency and not has_async:
        problem = "has no effect because no scorer of rewards waits for others"
        raise UserError("scoring.concurrency", scoring.concurrency, problem, "remove it or add one with a judge")


def _check_sandbox(config: RunConfig) -> None:
    sandbox = config.sandbox
    if sandbox.warm > sandbox.max_open:
        problem = f"exceeds sandbox.max_open={sandbox.max_open}"
        raise UserError("sandbox.warm", sandbox.warm, problem, f"use at most {sandbox.max_open}")


def _check_sft(config: RunConfig) -> None:
    sft = config.sft
    if sft.steps and not sft.demonstrations and not sft.files:
        remedy = "record some, name some in sft.files, or set sft.steps=0"
        raise UserError("sft.demonstrations", 0, "nothing to imitate", remedy)


def _problem(value: Any, bounds: Bounds) -> tuple[str, str] | None:
    """Return (problem, remedy) of a value outside its bounds; null has none."""
    if bounds.one_of is not None and value is not None and value not in bounds.one_of:
        return "is not a choice", f"one of: {', '.join(bounds.one_of)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value):
        return "is not a finite number", "use a finite number"
    for is_outside, problem, limit in (
        (bounds.at_least is not None and value < bounds.at_least, "is too small", f"at least {bounds.at_least}"),
        (bounds.above is not None and value <= bounds.above, "is too small", f"a number above {bounds.above}"),
        (bounds.at_most is not None and value > bounds.at_most, "is too large", f"at most {bounds.at_most}"),
        (bounds.below is not None and value >= bounds.below, "is too large", f"a number below {bounds.below}"),
    ):
        if is_outside:
            return problem, f"use {limit}"
    return None
