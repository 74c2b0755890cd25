"""Commands that plug-ins bring: a Typer app registered as `command`, found when the first word is none of ours.

    register_path("command", "swe", "my_package.cli:app")

The app is imported when it is asked for, or when the help lists it, so a plug-in's app imports what it needs when it
runs. What it raises ends like our own: a `UserError` is one line and exit code 2.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from turnwise.errors import UserError
from turnwise.registry import lookup, names


class WithPlugins(TyperGroup):
    """Our commands, and after them those of plug-ins; ours win where two have one name."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return a command, None if there is none; UserError for a plug-in that cannot be imported."""
        ours = super().get_command(ctx, cmd_name)
        if ours is not None or cmd_name not in names("command"):
            return ours
        return plugged(cmd_name)

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of all commands, ours alone where a plug-in is broken: the help works nevertheless."""
        ours = super().list_commands(ctx)
        try:
            return [*ours, *(name for name in names("command") if name not in ours and plugged(name) is not None)]
        except (UserError, ImportError, AttributeError):
            return ours


def plugged(name: str) -> Any:
    """Return a plug-in's command; UserError if what is registered is no Typer app."""
    app = lookup("command", name)
    if not isinstance(app, typer.Typer):
        remedy = 'register a typer.Typer, or "module:attribute" of one'
        raise UserError("command", name, f"a {type(app).__name__} is registered, no Typer app", remedy)
    command = get_group(app)
    command.name = name
    return command
