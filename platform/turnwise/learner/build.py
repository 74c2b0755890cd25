"""Builds what `learner.objective` and `learner.correction` name, and refuses a pair of which one has no effect.

The configuration's checks call it before a run, the learner when it starts. It imports no torch by itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from turnwise.config.plugins import build_plugin
from turnwise.errors import UserError
from turnwise.learner import Correction, Objective


class ObjectiveOptions(Protocol):
    """The part of `LearnerConfig` that is read here."""

    objective: dict[str, Any]
    correction: dict[str, Any]


def build_objective(config: ObjectiveOptions) -> tuple[Objective, Correction]:
    """Return the objective, and the correction: the objective's own, or the configured one.

    UserError for options that a class refuses, and for a correction beside an objective that takes none.
    """
    objective: Objective = _built("objective", config.objective)
    correction: Correction = _built("correction", config.correction)
    if correction.needs_proximal and not objective.takes_correction:
        name = config.objective["name"]
        problem = f"the objective {name} accounts for the sampler itself, and one ratio would be counted twice"
        raise UserError("learner.correction.name", config.correction["name"], problem, "use none, or objective ppo")
    return objective, objective.correction or correction


def _built(kind: str, section: dict[str, Any]) -> Any:
    found, options = build_plugin(kind, section, f"learner.{kind}")
    return found() if options is None else found(options)
