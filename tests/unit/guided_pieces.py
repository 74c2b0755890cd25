"""What the tests of guided attempts share: a riddle with hints, and groups of which some members are guided."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import gymnasium
from credit_pieces import TASK, score, trajectory
from rollout_pieces import Says, agent

from turnwise import TurnEnv
from turnwise.config.schema import GuidedConfig, TimeoutConfig
from turnwise.records import Group, Task
from turnwise.rollout.episode import EpisodeSpec, group_specs
from turnwise.rollout.guided import with_guided
from turnwise.rollout.worker import RolloutWorker

RIDDLE = "turnwise-tests/Riddle-v0"
ALL = GuidedConfig(share=1.0, per_group=64)


class Riddle(TurnEnv):
    """Who says `right` is right; its hints do as the task's data say. `gate` lets go what hangs."""

    gate = threading.Event()

    def begin(self, options: Any) -> str:
        assert "guidance" not in options
        self.options = dict(options)
        return f"riddle {self.task_seed}"

    def act(self, action: Any) -> str:
        self.said = action["content"].strip()
        if self.said == "raise":
            raise ValueError("boom")
        self.reward("outcome", {"right": 1.0, "half": 0.5}.get(self.said, 0.0))
        self.finish()
        return "over"

    def guide(self) -> str | None:
        how = self.options.get("hint", "give")
        if how == "raise":
            raise ValueError("no hint today")
        if how == "hang":
            self.gate.wait(30)
        return {"none": None, "blank": " \n", "number": 7}.get(how, f"not {self.said}")  # type: ignore[return-value]


if RIDDLE not in gymnasium.registry:
    gymnasium.register(RIDDLE, entry_point=Riddle, disable_env_checker=True, order_enforce=False)


def specs(size: int = 4, number: int = 3, config: GuidedConfig = ALL, **data: Any) -> list[EpisodeSpec]:
    task = Task(env_id=RIDDLE, task_id="t", seed=5, data=data)
    return with_guided(group_specs(task, number, size, 7), config, number=number, seed=7, update=0)


def worker(client: Says, *, slots: int = 4, step_s: float = 5.0, success: tuple[str, float] = ("outcome", 0.5)) -> Any:
    timeouts = TimeoutConfig(reset_s=5.0, step_s=step_s, generate_s=5.0, episode_s=20.0)
    return RolloutWorker("rollout:0", RIDDLE, {}, agent(), client, timeouts, slots, success=success)


def guided(member: Any, first: str = "") -> Any:
    provenance = {"guided": True, "guidance": "look", "first_attempt": first}
    return replace(member, provenance={**member.provenance, **provenance})


def mixed_group(
    name: str, first: list[float | None], second: list[float | None], turns: list[list[int]] | None = None
) -> Group:
    """A group of first attempts and guided ones with these outcomes (None: masked)."""
    shapes = turns or [[2, 2] for _ in (*first, *second)]
    members = [trajectory(name, index, shape) for index, shape in enumerate(shapes)]
    members = [guided(m) if m.index >= len(first) else m for m in members]
    scores = [score(m.trajectory_id, value) for m, value in zip(members, (*first, *second), strict=True)]
    return Group(group_id=name, task=TASK, trajectories=tuple(members), scores=tuple(scores))
