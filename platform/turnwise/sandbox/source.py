"""Where this process gets its sandboxes from: it opens them itself, or leases them from pools.

Environments and scorers do not know which. Whoever runs them says so once, at the start of the process: the shells of
the actors do where the configuration has pools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from turnwise.sandbox import Sandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import open_sandbox

Source = Callable[[SandboxPolicy | None, str], Awaitable[Sandbox]]

_source: Source = open_sandbox


async def open_here(policy: SandboxPolicy | None = None, field: str = "sandbox") -> Sandbox:
    """Open a sandbox. UserError and SandboxLost as `tiers.open_sandbox`; InfraError if a pool has none in time."""
    return await _source(policy, field)


def use(source: Source) -> None:
    """Get them from there from now on."""
    global _source
    _source = source
