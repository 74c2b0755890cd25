"""Environments that come with Turnwise, each under a versioned Gymnasium id; importing this package loads none of them.

- `turnwise/Search-v0`: deep search over an encyclopedia of linked pages
- `turnwise/GymText-v0`: any discrete Gymnasium environment, as text
- `turnwise/SWE-v0`: mend a repository; hidden tests decide
- `turnwise/TryAgain-v0`: another one of these environments, whose wrong answers may be corrected
- `turnwise/MCP-v0`: the tools of any server of the Model Context Protocol
- `turnwise/Remote-v0`: an environment that another machine serves
"""

from __future__ import annotations

import gymnasium

from turnwise.registry import register_path

_ENTRY_POINTS = {
    "turnwise/Search-v0": "turnwise_envs.search.env:SearchEnv",
    "turnwise/GymText-v0": "turnwise_envs.text.env:GymTextEnv",
    "turnwise/SWE-v0": "turnwise_envs.swe.env:SweEnv",
    "turnwise/TryAgain-v0": "turnwise_envs.try_again.env:TryAgainEnv",
    "turnwise/MCP-v0": "turnwise_envs.mcp.env:McpEnv",
    "turnwise/Remote-v0": "turnwise_envs.remote.env:RemoteEnv",
}


def register_all() -> None:
    """Register all environments with Gymnasium, bare: messages need neither its checker nor its order guard.

    And the command `turnwise swe`.
    """
    for env_id, entry_point in _ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point, disable_env_checker=True, order_enforce=False)
    register_path("command", "swe", "turnwise_envs.swe.cli:app")
