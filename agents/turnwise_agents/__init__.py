"""Agents: how a policy reads observations and writes actions. Found by the core through its plug-in registry."""

from __future__ import annotations

from pathlib import Path

from turnwise.registry import register, register_path

TINY_MODEL = Path(__file__).parent / "tiny"
"""The small base model that is shipped with the package, in Hugging Face format."""

TINY_CODE = Path(__file__).parent / "tiny_code"
"""The small base model of code."""


def register_all() -> None:
    """Register all agents, and the packaged models."""
    register_path("agent", "chat", "turnwise_agents.chat:ChatAgent")
    register_path("agent", "program", "turnwise_agents.program:ProgramAgent")
    register("model", "tiny")(TINY_MODEL)
    register("model", "tiny_code")(TINY_CODE)
