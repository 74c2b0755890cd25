"""The Python that comes along into an image of others: this machine's own, with the libraries that it needs."""

from __future__ import annotations

import sys
from pathlib import Path

from turnwise.sandbox import SandboxLost
from turnwise.sandbox.policy import interpreter

BROUGHT = "/run/turnwise"
"""Where it is found inside."""


def brought_python() -> tuple[str, ...]:
    """Return the words that start it, by our loader of programs: the image's own C library may be another."""
    paths = f"{BROUGHT}/lib:{BROUGHT}/python/lib"
    return (f"{BROUGHT}/lib/{_loader().name}", "--library-path", paths, f"{BROUGHT}/python/bin/{python_name()}")


def brought_folders() -> dict[str, str]:
    """Return the folders of this machine that it needs, by their place inside."""
    return {f"{BROUGHT}/python": str(interpreter()), f"{BROUGHT}/lib": str(_loader().parent)}


def python_name() -> str:
    """Return the name of this Python's program."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _loader() -> Path:
    """Return the loader of this machine's programs; it stands among its libraries."""
    for name in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"):
        if Path(name).exists():
            return Path(name).resolve()
    raise SandboxLost("no loader of programs that is known: an image of others needs Linux on x86-64 or ARM64")
