"""The records that every part of Turnwise exchanges: numpy and dataclasses, no torch, no ray.

They cross process borders, so they are frozen; `to_json` and `from_json` of a record give plain JSON, and the
Arrow form of trajectories and scores is in `turnwise.store`. Shapes and units stand beside each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 2
"""Version of the stored form of all records; a reader refuses a newer one."""

ORACLE = "oracle"
"""The channel of `rollout.oracle`: the value of an action in its state, whatever happens later."""

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

Message = dict[str, Any]
"""One chat message: `role`, `content`, and for an assistant optionally `tool_calls`."""


class End(StrEnum):
    """How an episode ended."""

    TERMINATED = "terminated"  # the environment reached an end of its own
    TRUNCATED = "truncated"  # a limit on turns or context cut it off
    FAILED = "failed"  # a failure that is not the policy's: the trajectory carries a `Failure` and no reward

    @property
    def is_complete(self) -> bool:
        """Whether the episode may be scored and trained on."""
        return self is not End.FAILED


class FailureKind(StrEnum):
    """Who is to blame for a failure."""

    POLICY = "policy"
    ENV = "env"
    INFRA = "infra"
    ENGINE = "engine"
    JUDGE = "judge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem; a group is n episodes of one task."""

    env_id: str  # a registered Gymnasium id, for instance "turnwise/Search-v0"
    task_id: str  # unique within its environment and split
    seed: int  # what `reset` gets; decides the task's content
    split: str = "train"  # "train" or "eval"
    data: Mapping[str, Any] = field(default_factory=dict)  # plain JSON, handed to `reset` in `options`


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an episode or a score is missing."""

    kind: FailureKind
    stage: str  # where: "reset", "step", "generate", "score", "worker", ...
    cause: str  # one line, at most 500 characters
    is_retryable: bool = True

    @property
    def label(self) -> str:
        """The name under which failures are counted, for instance "env:step"."""
        return f"{self.kind.value}:{self.stage}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A reward that the environment itself gave during one turn."""

    channel: str  # "outcome", "format", "progress", ...
    value: float  # finite


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One exchange: what the policy newly read, and what it then wrote."""

    observation_ids: IntArray  # [num_observation_tokens] new context since the last action; never in the loss
    action_ids: IntArray  # [num_action_tokens] exactly what the sampler produced
    logprobs: FloatArray  # [num_action_tokens] log-probabilities under the sampler (at its temperature)
    versions: IntArray  # [num_action_tokens] weight version that sampled each token
    starts_context: bool = False  # True: the observation replaces the context instead of extending it
    observation: str = ""  # the observation as text, for people
    action: str = ""  # the action as text, for people
    call: Mapping[str, Any] | None = None  # the tool call that was carried out: {"name", "arguments"}, plain JSON
    is_valid: bool = True  # False: the environment could not carry the action out
    events: tuple[Event, ...] = ()  # emitted by the environment in answer to this action
    state_key: str | None = None  # equal keys = the same state before the action (GiGPO)
    belief_key: str | None = None  # equal keys = the same belief (ReBel)
    generate_s: float = 0.0  # seconds waited for the engine
    env_s: float = 0.0  # seconds the environment took to answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """One episode, from the first observation to its end."""

    trajectory_id: str  # unique in a run: "<group>/<index>"
    group_id: str  # unique in a run
    index: int  # 0 .. group size - 1; guided attempts from there on
    task: Task
    turns: tuple[Turn, ...]
    end: End
    end_cause: str = ""  # why it was truncated: "max_turns", "context", ...
    failure: Failure | None = None  # set exactly when `end` is FAILED
    provenance: Mapping[str, Any] = field(default_factory=dict)  # sandbox tier, attempt, seeds, versions, guidance

    @property
    def is_guided(self) -> bool:
        """Whether it began with guidance after a failed first attempt (`provenance["first_attempt"]`)."""
        return bool(self.provenance.get("guided", False))

    @property
    def is_followed(self) -> bool:
        """Whether a guided attempt follows, with the guidance that the environment offered after this one."""
        return "offered" in self.provenance

    @property
    def num_action_tokens(self) -> int:
        """Tokens that the policy wrote."""
        return sum(len(turn.action_ids) for turn in self.turns)

    @property
    def oldest_version(self) -> int:
        """The oldest weight version among its action tokens; -1 if it has none."""
        return min((int(turn.versions.min()) for turn in self.turns if len(turn.versions)), default=-1)

    @property
    def events_by_channel(self) -> dict[str, float]:
        """The environment's own rewards, summed by channel."""
        totals: dict[str, float] = {}
        for event in (event for turn in self.turns for event in turn.events):
            totals[event.channel] = totals.get(event.channel, 0.0) + event.value
        return totals


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One judgement of a trajectory or of one of its turns; channels stay apart until the estimator."""

    trajectory_id: str
    channel: str
    value: float | None  # None: masked, that is missing; never zero
    turn: int | None = None  # None: the whole trajectory
    span: tuple[int, int] | None = None  # half-open token range within the turn's action
    source: str = ""  # the scorer's name
    source_version: int = 0  # version of the model that gave it; 0 for one that does not change
    evidence: str = ""  # why, for people
    failure: Failure | None = None  # why it is masked

    @property
    def is_masked(self) -> bool:
        """Whether the score is missing."""
        return self.value is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """All episodes of one task that came back, with their scores; what credit is computed on."""

    group_id: str
    task: Task
    trajectories: tuple[Trajectory, ...]  # complete ones only, in order of `index`
    scores: tuple[Score, ...] = ()
    failures: tuple[Failure, ...] = ()  # of the episodes that were left out
    trained: tuple[int, ...] | None = None  # `index` of those in the loss now, all count in statistics; None: all
    later: tuple[int, ...] = ()  # `index` of those that a later batch trains on, once, with the same statistics
    is_rest: bool = False  # True: this is that later batch's part of a group that was trained on and stored before

    def is_trained(self, trajectory: Trajectory) -> bool:
        """Whether one of its trajectories is in the loss now."""
        return self.trained is None or trajectory.index in self.trained

    @property
    def trained_now(self) -> tuple[Trajectory, ...]:
        """The trajectories that are in the loss now."""
        return tuple(trajectory for trajectory in self.trajectories if self.is_trained(trajectory))

    @property
    def num_wanted(self) -> int:
        """Trajectories that are to be trained on, now or later."""
        return len(self.trained_now) + len(self.later)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Packed arrays for one update: rows laid end to end, all of length T = `row_offsets[-1]`.

    A row is one context: a whole trajectory, or the turns between two context resets. Tokens outside the loss
    (observations) carry `loss_mask` False, log-probability 0 and advantage 0.
    """

    ids: IntArray  # [T] token ids
    positions: IntArray  # [T] position within the row
    turn_ids: IntArray  # [T] turn index within the trajectory; -1 for observation tokens
    loss_mask: BoolArray  # [T] True for action tokens that are trained on
    logprobs: FloatArray  # [T] of the sampler
    advantages: FloatArray  # [T]
    versions: IntArray  # [T] weight version that sampled the token; -1 for observation tokens
    row_offsets: IntArray  # [num_rows + 1] start of each row
    row_trajectories: IntArray  # [num_rows] index of the trajectory that a row belongs to

    @property
    def num_rows(self) -> int:
        """Number of contexts."""
        return len(self.row_trajectories)

    @property
    def num_loss_tokens(self) -> int:
        """Number of tokens in the loss."""
        return int(self.loss_mask.sum())


def to_json(record: Task | Failure | Score | Event) -> dict[str, Any]:
    """Return a record without arrays as plain JSON types, with its schema version."""
    return {"schema_version": SCHEMA_VERSION, **asdict(record)}


def task_from_json(data: Mapping[str, Any]) -> Task:
    """Return the task that `to_json` wrote; ValueError for a newer schema."""
    return Task(**_fields(data))


def failure_from_json(data: Mapping[str, Any]) -> Failure:
    """Return the failure that `to_json` wrote; ValueError for a newer schema."""
    fields = _fields(data)
    return Failure(**{**fields, "kind": FailureKind(fields["kind"])})


def score_from_json(data: Mapping[str, Any]) -> Score:
    """Return the score that `to_json` wrote; ValueError for a newer schema."""
    fields = _fields(data)
    failure = fields.get("failure")
    span = fields.get("span")
    fields["failure"] = failure_from_json({"schema_version": SCHEMA_VERSION, **failure}) if failure else None
    fields["span"] = (int(span[0]), int(span[1])) if span else None
    return Score(**fields)


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(data)
    version = fields.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise ValueError(f"record has schema_version {version}, this Turnwise reads {SCHEMA_VERSION}")
    return fields
