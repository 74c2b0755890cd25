"""Agents."""


def register_all() -> None:
    """Register all agents."""
