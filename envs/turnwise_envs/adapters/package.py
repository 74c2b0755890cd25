"""Other people's packages: loaded when they are needed, named when they lack, and asked for what they have."""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from turnwise.errors import UserError

REFUSED = (
    *(TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError),
    *(ImportError, OSError, SyntaxError),
)
"""What packages raise for arguments that they do not take, for what they lack, and for a Python that is too old."""


def load(env_id: str, module: str, install: str) -> ModuleType:
    """Import a package; UserError with `install`, pip's arguments, if it or what it needs is not there.

    Some packages give the root logger handlers when they are imported: it is left as it was.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = f"needs {module.split('.')[0]}, which cannot be imported ({error})"
        raise UserError("env.id", env_id, problem, f"pip install {install}") from error
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def known(name: str, value: Any, names: Sequence[str]) -> str:
    """Return a name that a package knows; UserError with the nearest one otherwise."""
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(names)[:12])}, ..."
    raise UserError(f"env.kwargs.{name}", value, "no such name", remedy)


def by_name(name: str, value: Any) -> dict[str, Any]:
    """Return arguments by name; UserError for what is no mapping of them."""
    if not isinstance(value, Mapping | None) or not all(isinstance(key, str) for key in value or ()):
        raise UserError(f"env.kwargs.{name}", value, "no arguments by name", f"write {name}.NAME=value")
    return dict(value or {})


def made(field: str, name: Any, given: Mapping[str, Any], make: Callable[[], Any], *, given_as: str = "kwargs") -> Any:
    """Return what a package makes; UserError about the arguments given, or about the name where there are none."""
    try:
        return make()
    except REFUSED as error:
        said = " ".join(f"{type(error).__name__}: {error}".replace("*", " ").split())[:300]
        if not given:
            remedy = "install what it lacks, or choose another"
            raise UserError(f"env.kwargs.{field}", name, f"cannot be made ({said})", remedy) from error
        problem = f"{name} cannot be made with it ({said})"
        raise UserError(f"env.kwargs.{given_as}", dict(given), problem, "correct the arguments") from error


def imported(name: str, value: Any) -> Any:
    """Return what `module:name` names; UserError if there is no such thing."""
    module, _, attribute = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not module or not attribute:
        raise UserError(f"env.kwargs.{name}", value, "no name of anything", f"write {name}=module:name")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"env.kwargs.{name}", value, str(error), "install it or correct its name") from error
