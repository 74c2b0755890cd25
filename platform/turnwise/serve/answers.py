"""What a session's environment is asked, and what it answers as plain JSON; all of it runs in the session's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from turnwise.errors import UserError
from turnwise.serve.sessions import Environment
from turnwise.tasks import SPLITS, world_of


def opened(env: Environment) -> dict[str, Any]:
    """Return what is known of an environment before its first episode."""
    world = world_of(env)
    return {
        **_shown(env),
        "sample_actions": list(world.sample_actions),
        "max_turns": world.max_turns,
        "num_tasks": {split: world.num_tasks(split) for split in SPLITS},
    }


def reset(env: Environment, given: Mapping[str, Any]) -> dict[str, Any]:
    """Start an episode with `seed` and `options`."""
    seed, options = given.get("seed"), given.get("options")
    if not isinstance(seed, int | None) or isinstance(seed, bool) or not isinstance(options, dict | None):
        raise UserError("reset", given, "seed is a whole number or nothing, options an object", "correct the request")
    messages, info = env.reset(seed=seed, options=options)
    return {**_shown(env), "messages": messages, "info": info, "task_seed": world_of(env).task_seed}


def step(env: Environment, given: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out `action`."""
    messages, reward, terminated, truncated, info = env.step(given.get("action"))
    flags = {"terminated": bool(terminated), "truncated": bool(truncated)}
    return {"messages": messages, "reward": float(reward), **flags, "info": info}


def ask(env: Environment, given: Mapping[str, Any]) -> dict[str, Any]:
    """Ask an optional method, `what`: `oracle` of `action`, `demonstrate` with the generator `rng`, or `guide`."""
    world, what = world_of(env), given.get("what")
    if what == "oracle":
        return {"value": world.oracle(str(given.get("action")))}
    if what == "guide":
        return {"value": world.guide()}
    if what != "demonstrate":
        raise UserError("ask", what, "nothing that is answered", "one of: oracle, demonstrate, guide")
    rng = np.random.default_rng(0)
    try:
        rng.bit_generator.state = dict(given.get("rng") or {})
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(
            "ask", what, f"rng is no state of PCG64 ({error})", "send numpy's bit_generator.state"
        ) from None
    return {"value": world.demonstrate(rng), "rng": rng.bit_generator.state}


VERBS: dict[str, Callable[[Environment, Mapping[str, Any]], dict[str, Any]]] = {
    "reset": reset,
    "step": step,
    "ask": ask,
}


def _shown(env: Environment) -> dict[str, Any]:
    world = world_of(env)
    tier = str(getattr(world, "sandbox_tier", "none"))
    return {"instructions": world.instructions, "tools": world.tools, "sandbox_tier": tier}
