"""Registers what the core itself brings, by path, so that torch is imported only where it is used."""

from __future__ import annotations

from turnwise.registry import register_path

_ITEMS = (
    ("engine", "hf", "turnwise.engine.hf:HfEngine"),
    ("estimator", "grpo", "turnwise.credit.grpo:Grpo"),
    ("estimator", "rloo", "turnwise.credit.rloo:Rloo"),
    ("estimator", "turn_loo", "turnwise.credit.turn_loo:TurnLoo"),
    ("objective", "ppo", "turnwise.learner.objectives:Ppo"),
)


def register_all() -> None:
    """Register the core's engines, estimators and objectives."""
    for kind, name, path in _ITEMS:
        register_path(kind, name, path)
