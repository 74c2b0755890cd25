"""Images: the base image, made from this machine without any registry, and others by their names.

The base image is found by its label, the digest of its content is its tag. Another image is pulled when it is first
asked for; it needs a `/bin/sh` and nothing else, since the Python that serves comes along from this machine, with the
libraries that it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from turnwise.errors import UserError
from turnwise.sandbox import SandboxLost
from turnwise.sandbox.brought import brought_folders, brought_python, python_name
from turnwise.sandbox.daemon import Daemon, is_absent, lost, one_line, refusals
from turnwise.sandbox.labels import BASE
from turnwise.sandbox.policy import WORKSPACE, SandboxPolicy, environment, interpreter
from turnwise.sandbox.recipe import signature, write_base

REPOSITORY = "turnwise/base"
BUILD = "turnwise sandbox build"
_pulling = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image, and how commands are run in it."""

    id: str  # of its content
    python: tuple[str, ...]  # the words that start Python inside
    env: dict[str, str]
    shown: dict[str, str] = field(default_factory=dict)  # folders of the host, by their place inside
    volumes: Sequence[str] = ()  # folders that it wants on disk


def find_base(daemon: Daemon) -> str | None:
    """Return the id of the newest base image of this machine's Python, None if there is none."""
    with lost("the daemon does not say which images there are"):
        found = daemon.api.images(filters={"label": f"{BASE}={signature()}"})
    newest = max(found, key=lambda image: image["Created"], default=None)
    return None if newest is None else str(newest["Id"])


@contextlib.contextmanager
def written_base() -> Iterator[tuple[IO[bytes], str]]:
    """Write the base image into a temporary file; give it, at its beginning, and the name that its content has."""
    with tempfile.TemporaryFile(prefix="turnwise-sandbox-") as file:
        write_base(file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        file.seek(0)
        yield file, f"{REPOSITORY}:{digest}"


def build_base(daemon: Daemon, tag: str | None = None) -> tuple[str, bool]:
    """Make the base image unless one with this content is there; return its name, and whether it was made.

    `tag` is another name for it. SandboxLost if the daemon does not take it (a full disk, say).
    """
    with written_base() as (file, name):
        is_new = not _is_here(daemon, name)
        if is_new:
            with lost("the base image was not taken"):
                repository, _, digest = name.partition(":")
                changes = [f'LABEL {BASE}="{signature()}"']
                _check_said(daemon.api.import_image(file, repository, digest, changes=changes))
    if tag:
        repository, _, rest = tag.rpartition(":") if ":" in tag.rpartition("/")[2] else (tag, "", "latest")
        with lost(f"the image was not named {tag}"):
            daemon.api.tag(name, repository, rest)
    return name, is_new


def base_image(found: str) -> Image:
    """Return the base image with this id."""
    return Image(id=found, python=(str(interpreter() / "bin" / python_name()),), env=environment())


def resolved(daemon: Daemon, policy: SandboxPolicy, where: str) -> Image:
    """Return the policy's image, pulled if it has to be. UserError if there is no such; `where` is the key's place."""
    if policy.image:
        return _other(daemon, policy, where)
    found = find_base(daemon)
    if found is None:
        raise SandboxLost(f"the base image is gone: {BUILD}")
    return base_image(found)


def _other(daemon: Daemon, policy: SandboxPolicy, where: str) -> Image:
    name = policy.image
    with _pulling:
        if not _is_here(daemon, name):
            _pull(daemon, name, where)
    with lost(f"the image {name} is not here"):
        found = daemon.api.inspect_image(name)
    config: dict[str, Any] = found.get("Config") or {}
    env = dict(word.partition("=")[::2] for word in config.get("Env") or [])
    home = WORKSPACE if policy.workspace == WORKSPACE else "/tmp"  # no stray files among those of the image's folder
    return Image(
        id=str(found["Id"]),
        python=brought_python(),
        env={**environment(), "PATH": os.defpath, **env, "HOME": home, "TMPDIR": "/tmp"},
        shown=brought_folders(),
        volumes=tuple(config.get("Volumes") or ()),
    )


def _check_said(said: str) -> None:
    """Raise OSError if the daemon says that it failed: what takes long answers 200 before it begins."""
    for line in said.splitlines():
        if line.startswith("{") and (error := json.loads(line).get("error")):
            raise OSError(str(error))


def _is_here(daemon: Daemon, name: str) -> bool:
    try:
        daemon.api.inspect_image(name)
    except refusals() as error:
        if is_absent(error):
            return False
        raise SandboxLost(f"the daemon does not say whether {name} is here: {one_line(error)[:200]}") from error
    return True


def _pull(daemon: Daemon, name: str, where: str) -> None:
    """Fetch an image. UserError if a registry says that there is no such; SandboxLost if none is reached."""
    try:
        _check_said(daemon.api.pull(name))
    except refusals() as error:
        said = one_line(error)[:300]
        if is_absent(error):
            remedy = f"correct the name, or set {where}= for this machine's own image"
            raise UserError(where, name, f"no registry gives it ({said})", remedy) from error
        raise SandboxLost(f"the image {name} is not here and could not be fetched: {said}") from error
