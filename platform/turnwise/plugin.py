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
    ("fuse", "gate", "turnwise.credit.fusions.gate:Gate"),
    ("fuse", "constrain", "turnwise.credit.fusions.constrain:Constrain"),
    ("fuse", "renorm", "turnwise.credit.fusions.renorm:Renorm"),
    ("fuse", "only_positive", "turnwise.credit.fusions.only_positive:OnlyPositive"),
    ("fuse", "clip", "turnwise.credit.fusions.clip:Clip"),
    ("fuse", "delta", "turnwise.credit.fusions.delta:Delta"),
    ("fuse", "trust", "turnwise.credit.fusions.trust:Trust"),
    ("fuse", "reliability", "turnwise.credit.fusions.reliability:Reliability"),
    ("fuse", "anneal", "turnwise.credit.fusions.anneal:Anneal"),
    ("fuse", "tiers", "turnwise.credit.fusions.tiers:Tiers"),
    ("fuse", "preference", "turnwise.credit.fusions.preference:Preference"),
    ("fuse", "contrast", "turnwise.credit.fusions.contrast:Contrast"),
    ("fuse", "ensemble", "turnwise.credit.fusions.ensemble:Ensemble"),
    ("fuse", "decorrelate", "turnwise.credit.fusions.decorrelate:Decorrelate"),
    ("fuse", "progress", "turnwise.credit.fusions.progress:Progress"),
    ("fuse", "overlong", "turnwise.credit.fusions.overlong:Overlong"),
    ("objective", "ppo", "turnwise.learner.objectives:Ppo"),
)


_FLAKY = "turnwise/Flaky-v0"


def register_all() -> None:
    """Register what the core brings of each kind, and the unreliable environment of `turnwise.testing`."""
    if _FLAKY not in gymnasium.registry:
        entry_point = "turnwise.testing.flaky:FlakyEnv"
        gymnasium.register(_FLAKY, entry_point=entry_point, disable_env_checker=True, order_enforce=False)
    for kind, name, path in _ITEMS:
        register_path(kind, name, path)
