"""The tier `process`: a plain process of this user in a temporary folder. It confines nothing; for code that you trust.

Deadlines, caps of output and the folder's end hold for code that means well; a process that leaves its group stays, and
memory and processes have no limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from turnwise.sandbox import Tier
from turnwise.sandbox.link import PipeLink
from turnwise.sandbox.policy import MIB, SandboxPolicy
from turnwise.sandbox.served import INSIDE, Served, limits, settings

PREFIX = "turnwise-sandbox-"


class ProcessLink(PipeLink):
    """A process, its group and its folder."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        """Take over the process and its folder."""
        super().__init__(process)
        self._folder = folder

    def end(self) -> None:
        """Kill the group; the command that runs has one of its own, and ends with it."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> str:
        """Kill the group and remove the folder."""
        how = await super().close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return how


async def open_process(policy: SandboxPolicy) -> Served:
    """Start one; `SandboxLost` if it does not come up."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    told = settings(str(folder), limits(policy, in_all=True), env, is_alone=False)
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-I", "-S", str(INSIDE), told],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=env,
        cwd=folder,
        start_new_session=True,
        limit=MIB,
    )
    sandbox = Served(Tier.PROCESS, policy, ProcessLink(process, folder))
    return await sandbox.begin(lambda: "a plain process did not answer")
