"""An environment that the flow tests bring: every turn runs a command in a sandbox that the episode opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium

from turnwise.env.base import TurnEnv
from turnwise.errors import InvalidAction
from turnwise.records import Message
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy


class ShellEnv(TurnEnv):
    """Whatever is said, the sandbox counts; an episode in which it counted right is worth 1.0."""

    instructions = "Say anything."

    def __init__(
        self,
        *,
        num_turns: int = 2,
        seconds: float = 0.0,
        shown: Sequence[str] = (),
        render_mode: str | None = None,
    ) -> None:
        """Commands take `seconds` more; `shown` are folders of the host, by which the sandbox's processes are known."""
        super().__init__(render_mode)
        self._length, self._seconds = num_turns, seconds
        self._policy = SandboxPolicy(memory_mb=64, disk_mb=8, read_only=list(shown))
        self._box: BlockingSandbox | None = None
        self.sandbox_tier = "none"

    def begin(self, options: Mapping[str, Any]) -> str:
        self.close()
        self._box = BlockingSandbox(self._policy, "env.kwargs.sandbox")
        self.sandbox_tier = self._box.tier.value
        return "count"

    def act(self, action: Message) -> str:
        assert self._box is not None
        ran = self._box.exec(f"sleep {self._seconds}; echo x >> turns; wc -l < turns", deadline_s=20.0)
        if int(ran.stdout) != self.num_turns:
            raise InvalidAction("somebody else was here")
        if self.num_turns >= self._length:
            self.reward("outcome", 1.0)
            self.finish()
        return ran.stdout.decode()

    def close(self) -> None:
        if self._box is not None:
            self._box.close()
            self._box = None


def register_all() -> None:
    if "flow/Shell-v0" not in gymnasium.registry:
        gymnasium.register(
            "flow/Shell-v0", entry_point="flow_worlds:ShellEnv", disable_env_checker=True, order_enforce=False
        )
