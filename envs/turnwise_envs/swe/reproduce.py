"""Whether a task's reproduction still fails, tried with trusted files in a sandbox of its own.

What the agent has in its workspace under the reproduction's name does not count. This pays for progress, not for the
outcome: a program could make its own reproduction end well, so weigh the channel `progress` behind a gate.
"""

from __future__ import annotations

from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.source import open_here
from turnwise_envs.swe.archive import pack
from turnwise_envs.swe.changes import Edits, apply
from turnwise_envs.swe.grade import blocking, with_kit
from turnwise_envs.swe.repository import Case
from turnwise_envs.swe.workspace import variables


def reproduces(case: Case, taken: Edits, policy: SandboxPolicy, *, deadline_s: float) -> bool:
    """Whether the reproduction still fails with these changes; True for a task that has none. `SandboxLost`."""
    return blocking(_reproduces(case, taken, policy, deadline_s))


async def _reproduces(case: Case, taken: Edits, policy: SandboxPolicy, deadline_s: float) -> bool:
    recipe = case.task.recipe
    if recipe is None or not recipe.reproduction:
        return True
    box = await open_here(with_kit(case.within(policy)))
    try:
        files = apply(case.workspace, taken)
        await box.restore(pack(files, case.executable, folder=case.folder, keep=lambda _: True))
        command = list(recipe.reproduction)
        ran = await box.exec(command, cwd=case.folder, env=variables(case), deadline_s=deadline_s)
    finally:
        await box.close()
    return ran.code != 0
