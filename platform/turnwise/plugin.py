"""Registers what the core itself brings, by path, so that torch is imported only where it is used."""

from __future__ import annotations

import gymnasium

from turnwise.registry import register_path

_ITEMS = (
    ("engine", "hf", "turnwise.engine.hf:HfEngine"),
    ("estimator", "grpo", "turnwise.credit.estimators.grpo:Grpo"),
    ("estimator", "rloo", "turnwise.credit.estimators.rloo:Rloo"),
    ("estimator", "turn_loo", "turnwise.credit.estimators.turn_loo:TurnLoo"),
    ("estimator", "state_gae", "turnwise.credit.estimators.state_gae:StateGae"),
    ("estimator", "turnwise", "turnwise.credit.estimators.turnwise:Turnwise"),
    ("objective", "ppo", "turnwise.learner.objectives:Ppo"),
)


_FLAKY = "turnwise/Flaky-v0"


def register_all() -> None:
    """Register the core's engines, estimators and objectives, and the unreliable environment of `turnwise.testing`."""
    if _FLAKY not in gymnasium.registry:
        entry_point = "turnwise.testing.flaky:FlakyEnv"
        gymnasium.register(_FLAKY, entry_point=entry_point, disable_env_checker=True, order_enforce=False)
    for kind, name, path in _ITEMS:
        register_path(kind, name, path)
