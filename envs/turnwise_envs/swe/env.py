"""`turnwise/SWE-v0`: mend a repository; `tools` chooses how an agent acts in it. See `world.py` for the rewards."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from turnwise.errors import UserError
from turnwise.registry import suggestion
from turnwise_envs.swe.world import SweWorld

TOOL_SETS = {
    "full": "turnwise_envs.swe.full:FullSwe",
    "bash": "turnwise_envs.swe.bash:BashSwe",
    "operators": "turnwise_envs.swe.fixing:OperatorSwe",
}
"""Classes by the name of their set of tools."""


class SweEnv(SweWorld):
    """The door to the sets of tools: what it makes is one of those, not one of itself."""

    needs = "tasks, a sandbox"

    def __new__(cls, *, tools: str = "full", **kwargs: Any) -> SweWorld:  # type: ignore[misc]
        """Return the environment with a set of tools; UserError for an argument that it does not take."""
        if tools not in TOOL_SETS:
            raise UserError("env.kwargs.tools", tools, "no such set of tools", suggestion(str(tools), list(TOOL_SETS)))
        module, _, name = TOOL_SETS[tools].partition(":")
        kind: type[SweWorld] = getattr(importlib.import_module(module), name)
        known = list(inspect.signature(kind).parameters)
        for name, value in kwargs.items():
            if name not in known:
                problem = f"turnwise/SWE-v0 with tools={tools} takes no such argument"
                raise UserError(f"env.kwargs.{name}", value, problem, suggestion(name, known))
        return kind(**kwargs)
