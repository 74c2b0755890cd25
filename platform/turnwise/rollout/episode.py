"""One episode: begin, then prompt, generate, act, step, observe until the end. Always returns a trajectory.

The rollout worker calls `run_episode`. A failure that is not the policy's ends the episode as `End.FAILED`: the turns
so far are kept to be looked at, without their events, so that none of them can become a reward.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import turnwise
from turnwise.agent import Action, Agent, Prompt
from turnwise.config.schema import TimeoutConfig
from turnwise.engine import Completion, Finish, Request
from turnwise.env.base import GUIDANCE
from turnwise.errors import BoundaryError, EngineError, InfraError, failure_of
from turnwise.records import End, Failure, IntArray, Task, Trajectory, Turn
from turnwise.rollout.world import Answer, Opening, World

if TYPE_CHECKING:
    from turnwise.rollout.program import Programs


class Client(Protocol):
    """The engines, as rollouts see them."""

    async def generate(self, request: Request, timeout_s: float) -> Completion:
        """Return one sampled action; EngineError."""

    def open(self, sessions: Sequence[str]) -> None:
        """Announce episodes."""

    def close(self, sessions: Sequence[str]) -> None:
        """Forget episodes."""


class Stage(StrEnum):
    """What an episode is doing; also the stage of a failure."""

    WAITING = "waiting"  # for a slot
    PROGRAM = "program"  # runs by itself
    RESET = "reset"
    PROMPT = "prompt"
    GENERATE = "generate"
    STEP = "step"
    GUIDE = "guide"  # after the end of one that failed
    EPISODE = "episode"  # the whole of it, for its time limit


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSpec:
    """One episode to be run."""

    trajectory_id: str  # unique in a run
    group_id: str
    index: int  # 0 .. group size - 1
    task: Task
    seed: int  # of this episode: decides its sampling, and the environment's chances where it asks for it
    order: int  # place in a lock-step batch
    temperature: float = 1.0  # 0 is greedy
    attempt: int = 1  # 1: the first; further ones are made after failures that are not the policy's
    again: EpisodeSpec | None = None  # the guided attempt that follows if the policy fails; its guidance is not known
    guidance: str | None = None  # what the environment said after the failed first attempt; None: this is no second one
    first_attempt: str = ""  # of a guided one: the trajectory id of the first

    @property
    def session(self) -> str:
        """The engine session's name; another one for each attempt."""
        return f"{self.trajectory_id}#{self.attempt}"


@dataclass(slots=True)
class Live:
    """A running episode, as a display may look at it."""

    spec: EpisodeSpec
    stage: Stage = Stage.WAITING
    turns: list[Turn] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)


async def run_episode(
    spec: EpisodeSpec,
    world: World,
    agent: Agent,
    client: Client,
    timeouts: TimeoutConfig,
    live: Live | None = None,
    programs: Programs | None = None,
) -> Trajectory:
    """Return the episode's trajectory, failed or not; `live` shows its progress. Only cancellation is raised.

    `programs` play it where the agent is one.
    """
    live = live or Live(spec)
    try:
        async with asyncio.timeout(timeouts.episode_s) as timer:
            end, cause = await _play(live, world, agent, client, timeouts, programs)
    except TimeoutError as error:
        late = InfraError(f"time-out after {timeouts.episode_s:.1f} s") if timer.expired() else error
        return _failed(live, failure_of(late, (Stage.EPISODE if timer.expired() else live.stage).value))
    except Exception as error:  # noqa: BLE001 - the border where an episode's error becomes its record
        return _failed(live, failure_of(error, live.stage.value))
    return _trajectory(live, end, cause)


async def _play(
    live: Live, world: World, agent: Agent, client: Client, timeouts: TimeoutConfig, programs: Programs | None
) -> tuple[End, str]:
    """Play to the end and return how and why it ended."""
    live.stage = Stage.RESET
    opening = await world.reset(live.spec.task.seed, _options(live.spec), timeouts.reset_s)
    live.provenance = _provenance(opening)
    if programs is not None:
        return await programs.play(live, opening, world)
    live.stage = Stage.PROMPT
    dialogue = agent.begin(instructions=opening.instructions, tools=opening.tools, observation=opening.messages)
    seen: Opening | Answer = opening
    while True:
        live.stage = Stage.PROMPT
        prompt = dialogue.prompt()
        live.stage = Stage.GENERATE
        request = request_of(live.spec, prompt.context_ids, agent.max_action_tokens, len(live.turns))
        started = time.perf_counter()
        completion = await sampled(client, request, timeouts.generate_s)
        generate_s = time.perf_counter() - started
        action = dialogue.act(completion.ids)
        live.stage = Stage.STEP
        answer = await world.step(action.message, timeouts.step_s)
        live.turns.append(_turn(seen, prompt, completion, action, answer, generate_s))
        if answer.terminated or answer.truncated:
            return (End.TERMINATED, "") if answer.terminated else (End.TRUNCATED, "max_turns")
        dialogue.observe(answer.messages)
        if dialogue.is_full:
            return End.TRUNCATED, "context"
        seen = answer


def request_of(spec: EpisodeSpec, context_ids: IntArray, max_tokens: int, number: int) -> Request:
    """Return the request for an episode's action of this number, from 0 on."""
    return Request(
        session=spec.session,
        context_ids=context_ids,
        max_tokens=max_tokens,
        temperature=spec.temperature,
        seed=request_seed(spec.seed, number),
        order=spec.order,
    )


async def sampled(client: Client, request: Request, timeout_s: float) -> Completion:
    """Return a sound completion; EngineError."""
    try:
        async with asyncio.timeout(timeout_s):
            completion = await client.generate(request, timeout_s)
    except BoundaryError:
        raise
    except TimeoutError:
        raise EngineError(f"time-out after {timeout_s:.1f} s") from None
    except Exception as error:
        raise EngineError(f"{type(error).__name__}: {error}") from error
    _check(completion)
    return completion


def _check(completion: Completion) -> None:
    """EngineError unless the completion can be trained on."""
    size = len(completion.ids)
    if completion.finish is Finish.ABORT:
        raise EngineError("the request was aborted")
    if not size or len(completion.logprobs) != size or len(completion.versions) != size:
        raise EngineError(f"{size} tokens, {len(completion.logprobs)} logprobs, {len(completion.versions)} versions")
    if not np.isfinite(completion.logprobs).all():
        raise EngineError("a log-probability is not finite")


def request_seed(episode_seed: int, turn: int) -> int:
    """Return the seed of one action, in [0, 2**63)."""
    return int(np.random.SeedSequence([episode_seed, turn]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _options(spec: EpisodeSpec) -> dict[str, Any]:
    own = {"task_id": spec.task.task_id, "split": spec.task.split, "episode_seed": spec.seed}
    guidance = {} if spec.guidance is None else {GUIDANCE: spec.guidance}
    return {**own, **spec.task.data, **guidance}


def _provenance(opening: Opening) -> dict[str, Any]:
    gold = {"gold": opening.info["gold"]} if "gold" in opening.info else {}
    return {"sandbox_tier": opening.sandbox_tier, **gold}


def _turn(
    seen: Opening | Answer, prompt: Prompt, completion: Completion, action: Action, answer: Answer, generate_s: float
) -> Turn:
    """Return the record of one exchange: `seen` led to the action, `answer` followed it."""
    return Turn(
        observation_ids=prompt.observation_ids,
        action_ids=completion.ids,
        logprobs=completion.logprobs,
        versions=completion.versions,
        starts_context=prompt.starts_context,
        observation="\n".join(str(message["content"]) for message in seen.messages),
        action=action.text,
        call=answer.info.get("call"),
        is_valid=answer.is_valid,
        events=answer.events,
        state_key=seen.info.get("state_key"),
        belief_key=seen.info.get("belief_key"),
        generate_s=generate_s,
        env_s=answer.seconds,
    )


def _failed(live: Live, failure: Failure) -> Trajectory:
    live.turns = [replace(turn, events=()) for turn in live.turns]
    return _trajectory(live, End.FAILED, "", failure)


def _trajectory(live: Live, end: End, cause: str, failure: Failure | None = None) -> Trajectory:
    spec, versions = live.spec, [turn.versions for turn in live.turns]
    used = np.concatenate(versions) if versions else np.zeros(0, dtype=np.int32)
    own = {
        "attempt": spec.attempt,
        "episode_seed": spec.seed,
        **guided_provenance(spec),
        "versions": [int(used.min()), int(used.max())] if len(used) else [],
        "turnwise": turnwise.__version__,
    }
    return Trajectory(
        trajectory_id=spec.trajectory_id,
        group_id=spec.group_id,
        index=spec.index,
        task=spec.task,
        turns=tuple(live.turns),
        end=end,
        end_cause=cause,
        failure=failure,
        provenance={**own, **live.provenance},
    )


def guided_provenance(spec: EpisodeSpec) -> dict[str, Any]:
    """Return what a trajectory says of its guidance: whether there was any, and after which attempt."""
    if spec.guidance is None:
        return {"guided": False}
    return {"guided": True, "guidance": spec.guidance, "first_attempt": spec.first_attempt}


def lost_trajectory(spec: EpisodeSpec, failure: Failure) -> Trajectory:
    """Return the record of an episode of which nothing came back."""
    return Trajectory(
        trajectory_id=spec.trajectory_id,
        group_id=spec.group_id,
        index=spec.index,
        task=spec.task,
        turns=(),
        end=End.FAILED,
        failure=failure,
        provenance={"attempt": spec.attempt, **guided_provenance(spec)},
    )


def group_specs(task: Task, number: int, size: int, seed: int) -> list[EpisodeSpec]:
    """Return the episodes of training group `number`; the same for equal seeds."""
    group_id = f"{number:08d}"
    seeds = np.random.SeedSequence([seed, number]).generate_state(size)
    return [
        EpisodeSpec(
            trajectory_id=f"{group_id}/{index}",
            group_id=group_id,
            index=index,
            task=task,
            seed=int(seeds[index]),
            order=number * size + index,
            temperature=1.0,
            attempt=1,
        )
        for index in range(size)
    ]
