"""Environments."""


def register_all() -> None:
    """Register all environments."""
