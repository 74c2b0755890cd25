"""`TurnEnv`: a Gymnasium environment whose actions and observations are chat messages.

A subclass writes `begin` and `act`; this class makes them the five values of Gymnasium's `step`, normalises messages,
counts turns, collects reward events and answers malformed actions with an observation instead of an exception.
It does not limit time: the rollout does.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np

from turnwise.errors import InvalidAction
from turnwise.records import Event, Message

Observation = str | Message | Sequence[Message]
"""What `begin` and `act` may return: a text, a message, or several."""

GUIDANCE = "guidance"
"""Entry of `reset`'s options: what `guide` returned after a failed attempt at the same task."""

MAX_TEXT = 1_000_000
"""Longest message content, in characters, that the space holds."""


class MessageSpace(gymnasium.Space[Any]):
    """Chat messages: one (`is_list=False`) or a list of them; a bare string is a member of both.

    Gymnasium's own `Text` space admits letters and digits only.
    """

    def __init__(
        self, *, is_list: bool, samples: Sequence[str] = ("hello", "yes", "0"), seed: int | None = None
    ) -> None:
        """`samples` are the texts that `sample` draws from."""
        super().__init__(None, None, seed)
        self.is_list, self.samples = is_list, tuple(samples)

    @property
    def is_np_flattenable(self) -> bool:
        """Messages have no array form."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> Any:
        """Return one of the sample texts, as a list of one message if the space holds lists."""
        text = self.samples[int(self.np_random.integers(len(self.samples)))]
        return [{"role": "user", "content": text}] if self.is_list else text

    def contains(self, x: Any) -> bool:
        """Whether `x` is a text, or messages with a role and a content; texts that UTF-8 cannot hold are not."""
        if isinstance(x, str):
            return _is_text(x)
        if self.is_list:
            return isinstance(x, list) and all(_is_message(item) for item in x)
        return _is_message(x)

    def __eq__(self, other: object) -> bool:
        """Equal for the same kind of space and samples."""
        return isinstance(other, MessageSpace) and (self.is_list, self.samples) == (other.is_list, other.samples)

    def __repr__(self) -> str:
        """Show the kind of space."""
        return f"MessageSpace(is_list={self.is_list})"


@dataclass(slots=True)
class EpisodeState:
    """What `TurnEnv` keeps of the running episode."""

    num_turns: int = 0  # actions taken, malformed ones included
    terminated: bool = False  # the world came to an end of its own
    truncated: bool = False  # a limit cut the episode off
    events: list[Event] = field(default_factory=list)  # of the current turn

    @property
    def is_over(self) -> bool:
        """Whether no further action is carried out."""
        return self.terminated or self.truncated


class TurnEnv(gymnasium.Env[Any, Any]):
    """Base of all multi-turn text environments.

    In `begin` and `act` use `self.np_random` for every draw, `self.reward(channel, value)` for every reward, and
    `self.finish()` (or `self.truncate()`) when the episode is over. Raise `InvalidAction` for an action that cannot
    be carried out; it costs a turn, and `on_invalid` may give it a reward.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"]}  # noqa: RUF012 (as Gymnasium declares it)
    instructions: str = ""  # what a system prompt should say of this world
    max_turns: int | None = None  # the episode is truncated after so many; None: no limit
    sample_actions: Sequence[str] = ("hello", "yes", "0")  # texts for `action_space.sample()`
    render_mode: str | None = None
    licence: ClassVar[str] = ""  # of tasks that others wrote; empty: there are none such
    needs: ClassVar[str] = ""  # what must be there besides Turnwise, in few words

    def __init__(self, render_mode: str | None = None) -> None:
        """Subclasses with options of their own call this first."""
        self.render_mode = render_mode
        self.observation_space = MessageSpace(is_list=True)
        self.action_space = MessageSpace(is_list=False, samples=self.sample_actions)
        self._state: EpisodeState | None = None
        self._seed = 0
        self._last: list[Message] = []

    @abstractmethod
    def begin(self, options: Mapping[str, Any]) -> Observation:
        """Start an episode (randomness: `self.np_random`, already seeded) and return the first observation.

        `options` holds `task_id`, `split`, `episode_seed` and the task's `data`, where the caller gave them.
        """

    @abstractmethod
    def act(self, action: Message) -> Observation:
        """Carry out one assistant message and return what it leads to; InvalidAction if it cannot be."""

    def reward(self, channel: str, value: float) -> None:
        """Emit a reward for this turn; ValueError unless finite."""
        if not math.isfinite(value):
            raise ValueError(f"reward on channel {channel!r} is {value}")
        self._episode.events.append(Event(channel=channel, value=float(value)))

    def finish(self) -> None:
        """Declare the episode over after this turn: the world came to an end of its own."""
        self._episode.terminated = True

    def truncate(self) -> None:
        """Declare the episode cut off after this turn, by a limit of the environment's own (besides `max_turns`)."""
        self._episode.truncated = True

    def on_invalid(self, error: InvalidAction) -> None:
        """React to an action that could not be carried out, for instance with a reward; nothing by default."""

    @property
    def num_turns(self) -> int:
        """Actions taken in this episode, the current one included; 0 before the first episode."""
        return 0 if self._state is None else self._state.num_turns

    @property
    def task_seed(self) -> int:
        """The seed that `reset` was given, or one drawn where it was given none; decides the task's content."""
        return self._seed

    @property
    def tools(self) -> list[dict[str, Any]]:
        """JSON schemas of the tools that an action may call; none by default."""
        return []

    def num_tasks(self, split: str) -> int | None:
        """Return how many tasks there are in a split; None: as many as there are seeds.

        Where there are N, task i is what `reset(seed=i, options={"split": split})` starts, for i from 0 to N - 1.
        """
        return None

    def oracle(self, action: str) -> float | None:
        """Return the verifiable value of an action in the present state, in [-1, 1]; None if unknown."""
        return None

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return a demonstrator's next action in the present state (not always a good one); None if there is none."""
        return None

    def state_key(self) -> str | None:
        """Return a key that is equal for equal states of one task; None if states are not compared."""
        return None

    def belief_key(self) -> str | None:
        """Return a key for what the policy has stated to believe; None if it states nothing."""
        return None

    def gold(self) -> dict[str, Any] | None:
        """Return what scorers may know of the current task and the policy may not, as plain JSON; None: nothing."""
        return None

    def guide(self) -> str | None:
        """Return what helps at a second attempt at the task whose episode has just failed; None if nothing does.

        Asked after the last step of a training episode and before the next reset. A plan, the place of an error, what
        tests said: never the answer. The policy reads it below the first observation of the second attempt.
        """
        return None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[list[Message], dict[str, Any]]:
        """Start an episode; Gymnasium's signature.

        `info["state_key"]` is the first state's; `info["gold"]` is there where `gold` returns something. What `options`
        has under `guidance` is shown below the first observation; `begin` does not see it, so the world is the same.
        """
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        self._state = EpisodeState()
        known = dict(options or {})
        guidance = known.pop(GUIDANCE, None)
        self._last = with_guidance(as_messages(self.begin(known), role="user"), guidance)
        info, gold = self._info(is_valid=True), self.gold()
        return self._last, info if gold is None else {**info, "gold": gold}

    def step(self, action: Any) -> tuple[list[Message], float, bool, bool, dict[str, Any]]:
        """Carry out one assistant message (or bare text); Gymnasium's five values.

        The reward is the sum of this turn's events; `info` has `events`, `is_valid`, `state_key` and `belief_key`.
        """
        if self._state is None or self._state.is_over:
            return self._after_the_end()
        state = self._state
        state.num_turns += 1
        state.events = []
        answer, is_valid = self._carry_out(action)
        self._last = as_messages(answer, role=self._answer_role)
        if self.max_turns is not None and state.num_turns >= self.max_turns and not state.terminated:
            state.truncated = True
        total = sum(event.value for event in state.events)
        return self._last, float(total), state.terminated, state.truncated, self._info(is_valid=is_valid)

    def render(self) -> str | None:
        """Return the last observation as text in render mode "ansi"."""
        if self.render_mode != "ansi":
            return None
        return "\n".join(f"{message['role']}: {message['content']}" for message in self._last)

    _answer_role: ClassVar[str] = "user"

    @property
    def _episode(self) -> EpisodeState:
        if self._state is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._state

    def _carry_out(self, action: Any) -> tuple[Observation, bool]:
        """Return the answer to an action and whether it could be carried out."""
        try:
            if not self.action_space.contains(action):
                raise InvalidAction("an action is a text or one message with a role and a content")
            return self.act(as_messages(action, role="assistant")[0]), True
        except InvalidAction as error:
            self.on_invalid(error)
            return f"error: {error}", False

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        return {
            "events": tuple(self._episode.events),
            "is_valid": is_valid,
            "state_key": self.state_key(),
            "belief_key": self.belief_key(),
        }

    def _after_the_end(self) -> tuple[list[Message], float, bool, bool, dict[str, Any]]:
        """Answer an action outside an episode: an error observation, no reward, the flags of the end."""
        self._last = as_messages("error: the episode is over", role=self._answer_role)
        if self._state is None:
            info = {"events": (), "is_valid": False, "state_key": None, "belief_key": None}
            return self._last, 0.0, True, False, info
        self._state.events = []
        return self._last, 0.0, self._state.terminated, self._state.truncated, self._info(is_valid=False)


def as_messages(observation: Observation, *, role: str) -> list[Message]:
    """Return the observation as a list of messages; a bare text gets `role`. TypeError for anything else."""
    if isinstance(observation, str):
        return [{"role": role, "content": observation}]
    if isinstance(observation, Mapping):
        return [dict(observation)]
    if isinstance(observation, list | tuple) and all(isinstance(message, Mapping) for message in observation):
        return [dict(message) for message in observation]
    raise TypeError(f"expected a text, a message or messages, got {type(observation).__name__}")


def with_guidance(messages: list[Message], guidance: str | None) -> list[Message]:
    """Return a first observation with guidance below its last message; as it is without any."""
    if not guidance:
        return messages
    last = messages[-1]
    return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{guidance}"}]


def _is_text(x: Any) -> bool:
    """Whether `x` is a text that fits and that UTF-8 can hold (half of a surrogate pair cannot)."""
    if not isinstance(x, str) or len(x) > MAX_TEXT:
        return False
    if x.isascii():
        return True
    try:
        x.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_message(x: Any) -> bool:
    return isinstance(x, dict) and isinstance(x.get("role"), str) and _is_text(x.get("content"))
