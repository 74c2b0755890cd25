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
    ("estimator", "dr_grpo", "turnwise.credit.estimators.dr_grpo:DrGrpo"),
    ("estimator", "opo", "turnwise.credit.estimators.opo:Opo"),
    ("estimator", "reinforce_pp", "turnwise.credit.estimators.reinforce_pp:ReinforcePp"),
    ("estimator", "reinforce_pp_baseline", "turnwise.credit.estimators.reinforce_pp_baseline:ReinforcePpBaseline"),
    ("estimator", "trloo", "turnwise.credit.estimators.trloo:Trloo"),
    ("estimator", "grpo_turn", "turnwise.credit.estimators.grpo_turn:GrpoTurn"),
    ("estimator", "gigpo", "turnwise.credit.estimators.gigpo:Gigpo"),
    ("estimator", "token_gae", "turnwise.credit.estimators.token_gae:TokenGae"),
    ("estimator", "bi_level_gae", "turnwise.credit.estimators.bi_level_gae:BiLevelGae"),
    ("estimator", "turn_gae", "turnwise.credit.estimators.turn_gae:TurnGae"),
    ("estimator", "vpr", "turnwise.credit.estimators.vpr:Vpr"),
    ("estimator", "vpr_turn_index", "turnwise.credit.estimators.vpr_turn_index:VprTurnIndex"),
    ("estimator", "mt_grpo", "turnwise.credit.estimators.mt_grpo:MtGrpo"),
    ("estimator", "istar", "turnwise.credit.estimators.istar:Istar"),
    ("estimator", "prime", "turnwise.credit.estimators.prime:Prime"),
    ("estimator", "cm2", "turnwise.credit.estimators.cm2:Cm2"),
    ("estimator", "cm2_step", "turnwise.credit.estimators.cm2_step:Cm2Step"),
    ("estimator", "rebel", "turnwise.credit.estimators.rebel:Rebel"),
    ("estimator", "verpo", "turnwise.credit.estimators.verpo:Verpo"),
    ("estimator", "turnwise", "turnwise.credit.estimators.turnwise:Turnwise"),
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
    ("select", "agent_rlvr", "turnwise.credit.selections.agent_rlvr:AgentRlvr"),
    ("select", "dynamic_sampling", "turnwise.credit.selections.dynamic_sampling:DynamicSampling"),
    ("select", "overlong", "turnwise.credit.selections.overlong:Overlong"),
    ("select", "prof", "turnwise.credit.selections.prof:Prof"),
    ("select", "rorecomp", "turnwise.credit.selections.rorecomp:Rorecomp"),
    ("objective", "ppo", "turnwise.learner.objectives.ppo:Ppo"),
    ("objective", "gspo", "turnwise.learner.objectives.gspo:Gspo"),
    ("objective", "turn_ratio", "turnwise.learner.objectives.turn_ratio:TurnRatio"),
    ("objective", "cispo", "turnwise.learner.objectives.cispo:Cispo"),
    ("objective", "dppo", "turnwise.learner.objectives.dppo:Dppo"),
    ("objective", "decoupled_ppo", "turnwise.learner.objectives.decoupled_ppo:DecoupledPpo"),
    ("correction", "none", "turnwise.learner.corrections.none:NoCorrection"),
    ("correction", "tis", "turnwise.learner.corrections.tis:Tis"),
    ("correction", "mis", "turnwise.learner.corrections.mis:Mis"),
    ("correction", "icepop", "turnwise.learner.corrections.icepop:IcePop"),
)


_FLAKY = "turnwise/Flaky-v0"


def register_all() -> None:
    """Register what the core brings of each kind, and the unreliable environment of `turnwise.testing`."""
    if _FLAKY not in gymnasium.registry:
        entry_point = "turnwise.testing.flaky:FlakyEnv"
        gymnasium.register(_FLAKY, entry_point=entry_point, disable_env_checker=True, order_enforce=False)
    for kind, name, path in _ITEMS:
        register_path(kind, name, path)
