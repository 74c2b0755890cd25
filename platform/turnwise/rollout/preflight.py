"""Checks before a run: first prompts fit the context; the world has the keys, the oracle and the guidance wanted.

The command line calls it; rollouts do not. It looks at a few tasks only: a later task with a longer prompt ends its
episode as a failure of the policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.agent import Agent
from turnwise.env.base import TurnEnv, as_messages
from turnwise.errors import UserError
from turnwise.records import Task
from turnwise.tasks import make_env, world_of


def check_first_prompts(agent: Agent, env_kwargs: Mapping[str, Any], tasks: Sequence[Task]) -> int:
    """Return the length of the longest first prompt of some tasks of one environment, in tokens.

    UserError naming `agent.max_context` if that leaves no room for one action.
    """
    longest = max((_first_prompt(agent, env_kwargs, task) for task in tasks), default=0)
    room = agent.max_action_tokens
    if longest + room > agent.max_context:
        problem = f"shorter than the first prompt of {longest} tokens plus agent.max_action_tokens={room}"
        raise UserError("agent.max_context", agent.max_context, problem, f"set it to at least {longest + room}")
    return longest


def check_keys_exist(env_kwargs: Mapping[str, Any], task: Task, kind: str, estimator: str) -> None:
    """Raise UserError naming the estimator if the environment has no keys of the kind it compares."""
    env, method = make_env(task.env_id, env_kwargs), f"{kind}_key"
    try:
        if getattr(type(world_of(env)), method) is getattr(TurnEnv, method):
            problem = f"compares turns of equal {method}, and {task.env_id} gives none"
            remedy = f"give the environment a {method}(), or choose turn_loo"
            raise UserError("credit.estimator.name", estimator, problem, remedy)
    finally:
        env.close()


def check_oracle_exists(env_kwargs: Mapping[str, Any], env_id: str) -> None:
    """Raise UserError naming `rollout.oracle` if the environment has no oracle of its own."""
    env = make_env(env_id, env_kwargs)
    try:
        if type(world_of(env)).oracle is TurnEnv.oracle:
            problem, remedy = f"{env_id} has no oracle", "give the environment an oracle(), or set rollout.oracle=false"
            raise UserError("rollout.oracle", "true", problem, remedy)
    finally:
        env.close()


def check_guide_exists(env_kwargs: Mapping[str, Any], env_id: str, share: float) -> None:
    """Raise UserError naming `rollout.guided.share` if the environment never offers guidance."""
    env = make_env(env_id, env_kwargs)
    try:
        if type(world_of(env)).guide is TurnEnv.guide:
            remedy = "give the environment a guide(), or set rollout.guided.share=0"
            raise UserError("rollout.guided.share", share, f"{env_id} offers no guidance", remedy)
    finally:
        env.close()


def _first_prompt(agent: Agent, env_kwargs: Mapping[str, Any], task: Task) -> int:
    env = make_env(task.env_id, env_kwargs)
    try:
        options = {"task_id": task.task_id, "split": task.split, "episode_seed": task.seed, **task.data}
        messages = as_messages(env.reset(seed=task.seed, options=options)[0], role="user")
        world = world_of(env)
        return agent.begin(instructions=world.instructions, tools=world.tools, observation=messages).num_context_tokens
    finally:
        env.close()
