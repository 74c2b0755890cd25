"""Environments: what a world must offer. `TurnEnv` and `ToolEnv` are what a user's own environment extends."""

from turnwise.env.base import EpisodeState, MessageSpace, Observation, TurnEnv
from turnwise.env.calls import ToolCall
from turnwise.env.tools import ToolEnv, tool

__all__ = ["EpisodeState", "MessageSpace", "Observation", "ToolCall", "ToolEnv", "TurnEnv", "tool"]
