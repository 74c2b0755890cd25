"""Rewards."""


def register_all() -> None:
    """Register all scorers."""
