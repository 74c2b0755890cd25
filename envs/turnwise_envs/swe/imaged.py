"""A repository that lies in an image, in `/testbed`, as SWE-bench, SWE-Gym and SWE-smith have it: how it is read.

A sandbox of the image copies it into its workspace, once a process, and ends. Every other sandbox of the task has its
workspace in the place of the image's `/testbed`, so that what is installed from there is the agent's copy, and the
history in the image, which may hold the fix, is not to be seen.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, replace
from functools import lru_cache

from turnwise.sandbox import FileRefused
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import WORKSPACE, SandboxPolicy
from turnwise_envs.swe import diffs
from turnwise_envs.swe.archive import read_archive

TESTBED = "/testbed"
MAX_IMAGES = 8
"""Repositories kept in a process: they are large, and episodes of a group begin together."""

READ_S = 60.0
OLDEST, OURS = (3, 6), (3, 10)
"""Of the image's Python: with a pytest of its own, and for the one that comes along."""

PYTHONS = ("/opt/miniconda3/envs/testbed/bin/python", "python3", "python")
"""Where an image has the Python of its repository: the first that is there."""

COPY = """
[ -d /testbed ] || { echo "no folder /testbed" >&2; exit 3; }
for path in /testbed/* /testbed/.[!.]*; do
  if [ "$path" != /testbed/.git ] && { [ -e "$path" ] || [ -h "$path" ]; }; then cp -RP "$path" . || exit 4; fi
done
"""
LOOK = f"""
for name in {" ".join(PYTHONS)}; do python=$(command -v "$name") && break; done
[ -n "$python" ] || {{ echo "no Python" >&2; exit 3; }}
exec "$python" -c 'if 1:
    import json, sys
    try:
        import pytest
        has = True
    except ImportError:
        has = False
    print(json.dumps([sys.executable, sys.version_info[:2], has]))
'
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What an image holds."""

    files: dict[str, bytes]  # by path from the repository's root
    executable: frozenset[str]
    python: str  # path of the interpreter that has the repository's packages


def within(policy: SandboxPolicy, image: str) -> SandboxPolicy:
    """Return the policy of a sandbox whose workspace stands where the image has the repository."""
    return replace(policy, image=image, workspace=TESTBED)


@lru_cache(maxsize=MAX_IMAGES)
def read_image(image: str, disk_mb: int, memory_mb: int, field: str) -> Held:
    """Return an image's repository. DiffError for what is none, or too large; UserError, SandboxLost as opening one."""
    policy = SandboxPolicy(image=image, workspace=WORKSPACE, disk_mb=disk_mb, memory_mb=memory_mb, wall_s=READ_S)
    with BlockingSandbox(policy, field) as box:
        copied = box.exec(["/bin/sh", "-c", COPY])
        if copied.code != 0:
            raise diffs.DiffError(f"image {image}: {_last(copied.stderr)} (sandbox.disk_mb is {disk_mb})")
        try:
            with tarfile.open(fileobj=io.BytesIO(box.snapshot())) as archive:
                files, executable = read_archive(archive, f"image {image}")
        except FileRefused as error:
            raise diffs.DiffError(f"image {image}: its repository is larger than sandbox.disk_mb={disk_mb}") from error
        looked = box.exec(["/bin/sh", "-c", LOOK])
    return Held(files=files, executable=executable, python=_python(image, looked.stdout, looked.stderr))


def _python(image: str, said: bytes, errors: bytes) -> str:
    try:
        path, version, has_pytest = json.loads(said)
    except ValueError:
        raise diffs.DiffError(f"image {image}: {_last(errors)}") from None
    least = OLDEST if has_pytest else OURS
    if tuple(version) < least:
        why = "is too old" if has_pytest else "has no pytest, and is too old for the one that would come along"
        raise diffs.DiffError(f"image {image}: its Python {version[0]}.{version[1]} {why}")
    return str(path)


def _last(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it cannot be read"
