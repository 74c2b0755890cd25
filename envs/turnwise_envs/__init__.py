"""Environments that come with Turnwise, each under a versioned Gymnasium id; importing this package loads none of them.

- `turnwise/Search-v0`: deep search over an encyclopedia of linked pages
- `turnwise/GymText-v0`: any discrete Gymnasium environment, as text
- `turnwise/SWE-v0`: mend a repository; hidden tests decide
- `turnwise/Sokoban-v0`: push boxes onto targets
- `turnwise/Household-v0`: find things in a room, treat them, put them where they belong
- `turnwise/Tool-v0`: function calling over simulated services, with rules and a user
- `turnwise/MiniWoB-v0`: small tasks on web pages, in a real browser
- `turnwise/Shop-v0`: buy what a task asks for in a small web shop, with a browser or without
- `turnwise/TryAgain-v0`: another one of these environments, whose wrong answers may be corrected
- `turnwise/Dialogue-v0`: negotiate with a partner who has goals of its own
- `turnwise/Questions-v0`: find out by yes/no questions what is meant
- `turnwise/BFCL-v0`: multi-turn function calling, with the tasks and services of the Berkeley leaderboard
- `turnwise/MCP-v0`: the tools of any server of the Model Context Protocol
- `turnwise/Remote-v0`: an environment that another machine serves
- `turnwise/ReasoningGym-v0`, `Gem-v0`, `TextArena-v0`, `TRL-v0`, `OpenEnv-v0`: those of other makers
"""

from __future__ import annotations

import gymnasium

from turnwise.registry import register_path

_ENTRY_POINTS = {
    "turnwise/Search-v0": "turnwise_envs.search.env:SearchEnv",
    "turnwise/GymText-v0": "turnwise_envs.text.env:GymTextEnv",
    "turnwise/SWE-v0": "turnwise_envs.swe.env:SweEnv",
    "turnwise/Sokoban-v0": "turnwise_envs.sokoban.env:SokobanEnv",
    "turnwise/Household-v0": "turnwise_envs.household.env:HouseholdEnv",
    "turnwise/Tool-v0": "turnwise_envs.tool.env:ServiceEnv",
    "turnwise/MiniWoB-v0": "turnwise_envs.web.miniwob:MiniWoBEnv",
    "turnwise/Shop-v0": "turnwise_envs.shop.env:ShopEnv",
    "turnwise/TryAgain-v0": "turnwise_envs.try_again.env:TryAgainEnv",
    "turnwise/Dialogue-v0": "turnwise_envs.social.dialogue:DialogueEnv",
    "turnwise/Questions-v0": "turnwise_envs.social.questions:QuestionsEnv",
    "turnwise/BFCL-v0": "turnwise_envs.bfcl.env:BfclEnv",
    "turnwise/MCP-v0": "turnwise_envs.mcp.env:McpEnv",
    "turnwise/Remote-v0": "turnwise_envs.remote.env:RemoteEnv",
    "turnwise/ReasoningGym-v0": "turnwise_envs.adapters.reasoning_gym:ReasoningGymEnv",
    "turnwise/Gem-v0": "turnwise_envs.adapters.gem:GemEnv",
    "turnwise/TextArena-v0": "turnwise_envs.adapters.text_arena:TextArenaEnv",
    "turnwise/TRL-v0": "turnwise_envs.adapters.trl:TrlEnv",
    "turnwise/OpenEnv-v0": "turnwise_envs.adapters.open_env:OpenEnvEnv",
}


def register_all() -> None:
    """Register all environments with Gymnasium, bare: messages need neither its checker nor its order guard.

    And the command `turnwise swe`.
    """
    for env_id, entry_point in _ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point, disable_env_checker=True, order_enforce=False)
    register_path("command", "swe", "turnwise_envs.swe.cli:app")
