"""`turnwise/TryAgain-v0`: another environment, whose wrong answers may be corrected (UFO; arXiv 2507.14295).

When the environment within ends of its own with an outcome of at most `THRESHOLD`, it is reset to the same task, and
the policy reads no more than that it was wrong. The episode is over at the first right answer, after `attempts`
answers, or where the environment within cuts an attempt off. Rewards (algorithms.md 4.11):

- `outcome`: decay^(t - 1) for a right answer at attempt t, 0 for a wrong one, instead of the environment's own;
- `repetition`: at the end, of a failure too, -repetition (1 - E / T): E different ones among the T valid answers;
- `format`: -0.1 for an action that cannot be carried out, unless the environment has a price of its own;
- its other channels: costs count each time, and what an attempt earns only beyond the best one before it. Otherwise
  a policy would be paid for failing and doing the same again.

An episode that the context's length ends has no `repetition`: nobody tells the environment. The scorer `retry` gives
the same rewards for environments of other makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import gymnasium
import numpy as np

from turnwise.env import TurnEnv
from turnwise.env.attempts import attempt_reward, normalise, repetition_penalty
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Event, Message
from turnwise.tasks import make_env, world_of

THRESHOLD = 0.5
"""An answer is right if the environment's own outcome exceeds it."""

FORMAT_PENALTY = 0.1
TRY_AGAIN = "Incorrect. Please think again."


class TryAgainEnv(TurnEnv):
    """Asks again after a wrong answer."""

    def __init__(
        self,
        *,
        id: str = "turnwise/Search-v0",
        kwargs: Mapping[str, Any] | None = None,
        attempts: int = 5,
        decay: float = 0.5,
        repetition: float = 0.5,
        text: str = TRY_AGAIN,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment `id` with `kwargs`; UserError for a value that does not fit.

        `attempts`: answers of an episode at most. `decay`: factor on a right answer for each one before it.
        `repetition`: what it costs if all answers were one and the same, nearly. `text`: all that a wrong one is told.
        """
        self._attempts = _checked_attempts(attempts)
        self._decay = _number("decay", decay, above=0.0, at_most=1.0)
        self._repetition = _number("repetition", repetition, at_most=1e6)
        self._text = _checked_text(text)
        self._inner = _make(id, kwargs)
        self._world = world_of(self._inner)
        self.instructions = self._world.instructions
        self.sample_actions = self._world.sample_actions
        super().__init__(render_mode)
        self._options: dict[str, Any] = {}
        self._call: Mapping[str, Any] | None = None  # that the environment within carried out this turn
        self._is_valid = True  # whether it carried out the action of this turn
        self._num_attempts = 0  # that are over
        self._outcome = 0.0  # of the attempt that is going on
        self._answers: list[str] = []  # valid ones
        self._earned: dict[str, float] = {}  # in this attempt, by channel; amounts above 0
        self._paid: dict[str, float] = {}  # so far, by channel: the most that one attempt earned

    def begin(self, options: Mapping[str, Any]) -> list[Message]:
        """Start the first attempt."""
        self._options, self._num_attempts = dict(options), 0
        self._answers, self._paid, self._call, self._is_valid = [], {}, None, True
        return self._begin_attempt()

    def act(self, action: Message) -> list[Message]:
        """Carry out an action within; after a wrong answer, get ready for the next attempt and say only that."""
        messages, _, terminated, truncated, info = self._inner.step(action)
        self._is_valid, self._call = bool(info["is_valid"]), info.get("call")
        self._pass_on(info["events"])
        is_right = (terminated or truncated) and self._outcome > THRESHOLD
        if terminated or is_right:
            self._pay(action, is_right)
        if is_right or (terminated and self._num_attempts >= self._attempts):
            self.finish()
        elif truncated:
            self.truncate()
        elif terminated:
            self._begin_attempt()
        if self._episode.is_over:
            self.reward("repetition", 0.0 - repetition_penalty(self._answers, self._repetition))
        is_wrong = terminated and not is_right
        return [{"role": messages[-1]["role"], "content": self._text}] if is_wrong else list(messages)

    def on_invalid(self, error: InvalidAction) -> None:
        """What is no message at all never gets to the environment within."""
        self._is_valid, self._call = False, None
        self.reward("format", -FORMAT_PENALTY)

    def num_tasks(self, split: str) -> int | None:
        """Return the number of tasks of the environment within."""
        return self._world.num_tasks(split)

    def oracle(self, action: str) -> float | None:
        """Return what the oracle within says."""
        return self._world.oracle(action)

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return the next action of the demonstrator within, who begins anew with every attempt."""
        return self._world.demonstrate(rng)

    def state_key(self) -> str | None:
        """Return the key of the state within; after the first answer, together with the answers given."""
        inner = self._world.state_key()
        if inner is None or not self._num_attempts:
            return inner
        given = "\x1e".join(sorted(map(normalise, self._answers)))
        state = f"{inner}\x1f{self._num_attempts}\x1f{given}"
        return blake2b(state.encode(errors="replace"), digest_size=8).hexdigest()

    def belief_key(self) -> str | None:
        """Return the key within."""
        return self._world.belief_key()

    def gold(self) -> dict[str, Any] | None:
        """Return what scorers may know of the task within."""
        return self._world.gold()

    def guide(self) -> str | None:
        """Return the guidance of the environment within."""
        return self._world.guide()

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools within."""
        return self._world.tools

    @property
    def sandbox_tier(self) -> str:
        """The tier of the sandbox within."""
        return str(getattr(self._world, "sandbox_tier", "none"))

    def close(self) -> None:
        """Close the environment within."""
        self._inner.close()

    def _begin_attempt(self) -> list[Message]:
        messages, _ = self._inner.reset(seed=self.task_seed, options=dict(self._options))
        self._outcome, self._earned = 0.0, {}
        return list(messages)

    def _pay(self, action: Message, is_right: bool) -> None:
        """Count an answer and pay for it."""
        self._num_attempts += 1
        if self._is_valid:
            self._answers.append(_answer(action, self._call))
        self.reward("outcome", attempt_reward(self._num_attempts if is_right else None, self._decay))

    def _pass_on(self, events: tuple[Event, ...]) -> None:
        """Emit what the environment within gave for this action, apart from its outcome."""
        if not self._is_valid and not any(event.channel == "format" for event in events):
            self.reward("format", -FORMAT_PENALTY)
        for event in events:
            if event.channel == "outcome":
                self._outcome += event.value
            elif event.value <= 0.0:
                self.reward(event.channel, event.value)
            else:
                self._earn(event)

    def _earn(self, event: Event) -> None:
        """Emit of an amount what no attempt before had earned."""
        earned = self._earned[event.channel] = self._earned.get(event.channel, 0.0) + event.value
        surplus = earned - self._paid.get(event.channel, 0.0)
        if surplus > 0.0:
            self._paid[event.channel] = earned
            self.reward(event.channel, surplus)

    def _info(self, *, is_valid: bool) -> dict[str, Any]:
        """Say of the action what the environment within said: whether it was valid, and the call."""
        info = super()._info(is_valid=is_valid and self._is_valid)
        return {**info, "call": self._call} if is_valid and self._call is not None else info


def _make(id: Any, kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make the environment within; UserError, naming the argument as it stands in this one's."""
    if not isinstance(id, str):
        raise UserError("env.kwargs.id", id, "no environment's id", "see `turnwise env list`")
    if not isinstance(kwargs, Mapping | None):
        raise UserError("env.kwargs.kwargs", kwargs, "no arguments by name", "give a mapping")
    try:
        return make_env(id, kwargs)
    except UserError as error:
        field = f"env.kwargs.{error.field.removeprefix('env.')}"
        raise UserError(field, error.value, error.problem, error.remedy.replace("env.", "env.kwargs.")) from error


def _answer(action: Message, call: Mapping[str, Any] | None) -> str:
    """Return the text of an answer: of a call, its first text."""
    if call is None:
        return str(action["content"])
    return next((value for value in call["arguments"].values() if isinstance(value, str)), "")


def _checked_attempts(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise UserError("env.kwargs.attempts", value, "no number of attempts", "give a whole number from 1 to 1000")
    return value


def _number(name: str, value: Any, *, above: float | None = None, at_most: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value > at_most or value < 0 or (above is not None and value <= above):
        remedy = f"give a number {'from 0' if above is None else f'above {above:g}'} to {at_most:g}"
        raise UserError(f"env.kwargs.{name}", value, "out of range", remedy)
    return float(value)


def _checked_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 1000:
        raise UserError("env.kwargs.text", value, "nothing to be said", "give a text of at most 1000 characters")
    return value
