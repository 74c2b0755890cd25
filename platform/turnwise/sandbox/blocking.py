"""A sandbox for code that does not await: environments, whose `reset` and `step` are plain methods.

with BlockingSandbox(SandboxPolicy(memory_mb=1024)) as box:
box.write("answer.py", program)
ran = box.exec("python3 answer.py", deadline_s=10)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from turnwise.sandbox import Ran, Sandbox, SandboxLost, Tier
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.source import open_here

Result = TypeVar("Result")


class BlockingSandbox:
    """The methods of `Sandbox`, each waiting for its result; from any thread. Closed at the end of a `with`."""

    def __init__(self, policy: SandboxPolicy | None = None, field: str = "sandbox") -> None:
        """Open one, where this process gets them from; errors as `open_here`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()
        try:
            self._box: Sandbox = self._wait(open_here(policy, field))
        except BaseException:
            self._stop()
            raise
        self.tier: Tier = self._box.tier

    def exec(self, command: str | list[str], **options: Any) -> Ran:
        """Run a command; see `Sandbox.exec`."""
        return self._wait(self._box.exec(command, **options))

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Return a file's content; see `Sandbox.read`."""
        return self._wait(self._box.read(path, max_bytes=max_bytes))

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file; see `Sandbox.write`."""
        self._wait(self._box.write(path, data))

    def snapshot(self) -> bytes:
        """Return the workspace as a tar archive."""
        return self._wait(self._box.snapshot())

    def restore(self, archive: bytes) -> None:
        """Make the workspace what the archive holds."""
        self._wait(self._box.restore(archive))

    def close(self) -> None:
        """End everything in it; may be called twice."""
        if self._thread.is_alive():
            self._wait(self._box.close())
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        if not self._thread.is_alive():
            work.close()
            raise SandboxLost("the sandbox is gone: it was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_others() -> None:
    """Cancel what is still under way (a start that was interrupted, say), so that it cleans up."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
