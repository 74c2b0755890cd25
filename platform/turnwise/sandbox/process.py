"""The tier `process`: a plain process of this user in a temporary folder. It confines nothing; for code that you trust.

Deadlines, caps of output and the folder's end hold for code that means well; a process that leaves its group stays.
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

from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.policy import MIB, SandboxPolicy
from turnwise.sandbox.served import INSIDE, START_S, Served, limits, settings

PREFIX = "turnwise-sandbox-"


class ProcessSandbox(Served):
    """A sandbox of this tier; `open_process` opens one."""

    def __init__(self, policy: SandboxPolicy, process: asyncio.subprocess.Process, folder: Path) -> None:
        """Take over the process and its folder."""
        super().__init__(Tier.PROCESS, policy, process)
        self._folder = folder

    async def close(self) -> None:
        """End it and remove the folder."""
        await super().close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


async def open_process(policy: SandboxPolicy) -> ProcessSandbox:
    """Start one; `SandboxLost` if it does not come up."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    told = settings(str(folder), limits(policy, has_cgroup=True), env, is_alone=False)
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
    sandbox = ProcessSandbox(policy, process, folder)
    try:
        await sandbox.exec(["/bin/true"], deadline_s=START_S)
    except BaseException as error:
        await sandbox.close()
        if isinstance(error, OSError | SandboxLost):
            raise SandboxLost("a plain process did not start") from error
        raise
    return sandbox
