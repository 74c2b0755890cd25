"""The scorer `belief`: how well the belief that a turn states agrees with the world (ReBel; algorithms.md 4.6).

An action states its belief as one JSON object between `<belief>` and `</belief>`:

    {"state": ["what is so", ...], "task": "the phase of the task", "prediction": ["what comes next", ...]}

The formula and its weights are in `turnwise_rewards.belief`; who compares is the option `by`:

- `events`: the environment's own tracker, which emits each part's agreement on the channels `belief/state`,
  `belief/task` and `belief/prediction`. A part without an event could not be told, and the score is missing.
- `observation`: the next observation. Of the state's items those count that are news, some word of which the policy has
  not read in this episode: each whose words all stand in the next observation is right, and the part is the share
  of right ones less a tenth for each wrong one (at least -1). The prediction is the share of its words not read before
  that stand there. So a belief that restates what was read, or the form that observations have, earns nothing. The task
  is 1 if the phase is the true one: the last one of the gold's `phases` (name to texts, in order) with one of its texts
  in what was read by then; one without texts is the first. What a refused action leads to confirms nothing: an error is
  easily foretold.

The form is worth 0.01 for one readable belief and -0.05 otherwise, less 0.02 for an action that could not be carried
out. Without a readable belief only the form counts. The last turn leads to no observation: it has no score, unless the
tracker gave one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from turnwise.config import key
from turnwise.env.beliefs import belief_texts, split_belief
from turnwise.errors import JudgeError
from turnwise.records import Group, Score, Trajectory, Turn
from turnwise_rewards.belief import BeliefScores, BeliefWeights, consistency_reward
from turnwise_rewards.marks import mark, missing
from turnwise_rewards.reading import gold_of

CHANNEL = "consistency"
PREFIX = "belief/"
PARTS = ("state", "task", "prediction")

READABLE, UNREADABLE, INVALID = 0.01, -0.05, -0.02
"""What the form is worth: a readable belief, none, and besides an action that could not be carried out."""

WRONG_ITEM = 0.1
"""What an item of the state that is not there costs."""

_WORD = re.compile(r"\w{2,}")


@dataclass
class BeliefConfig:
    """Options of `belief`."""

    by: str = key(
        "observation",
        "who compares: the next observation, or events on `belief/state`, `belief/task` and `belief/prediction`",
        one_of=("observation", "events"),
    )
    state: float = key(0.4, "weight of what is believed to be so", at_least=0)
    task: float = key(0.3, "weight of the task's phase; by observation it needs the gold's `phases`", at_least=0)
    prediction: float = key(0.2, "weight of what is expected next", at_least=0)
    format: float = key(0.1, "weight of the form", at_least=0)


class Belief:
    """The scorer `belief`."""

    Config: ClassVar[type] = BeliefConfig
    version = 0
    channels: tuple[str, ...] = (CHANNEL,)

    def __init__(self, config: BeliefConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config
        self._weights = BeliefWeights(
            state=config.state, task=config.task, prediction=config.prediction, format=config.format
        )

    def score(self, group: Group) -> Sequence[Score]:
        """Return one score for each turn whose belief can be compared."""
        places = [(trajectory, turn) for trajectory in group.trajectories for turn in range(len(trajectory.turns))]
        return [score for place in places if (score := self._scored(*place)) is not None]

    def _scored(self, trajectory: Trajectory, turn: int) -> Score | None:
        one = trajectory.turns[turn]
        if turn + 1 == len(trajectory.turns) and not (self.config.by == "events" and _tracked(one)):
            return None
        belief, _ = split_belief(one.action)
        try:
            parts = None if belief is None else self._parts(trajectory, turn, belief)
            value = consistency_reward(parts, form_of(belief, one), self._weights)
        except (JudgeError, ValueError) as error:
            return missing(trajectory, CHANNEL, str(error), turn)
        if value is None:
            return missing(trajectory, CHANNEL, f"the tracker could not tell {_untold(parts)}", turn)
        return mark(trajectory, CHANNEL, value, turn, _shown(parts))

    def _parts(self, trajectory: Trajectory, turn: int, belief: Mapping[str, Any]) -> BeliefScores:
        """Return the agreement of each part; 0 for one of weight 0, which nobody needs to tell."""
        if self.config.by == "events":
            told: dict[str, float | None] = {**dict.fromkeys(PARTS), **_tracked(trajectory.turns[turn])}
            return BeliefScores(**{part: told[part] if self._weighs(part) else 0.0 for part in PARTS})
        before, after = _read(trajectory, turn), words(_next(trajectory, turn))
        return BeliefScores(
            state=state_agreement(belief_texts(belief.get("state")), before, after),
            task=_phase_agreement(trajectory, turn, belief) if self._weighs("task") else 0.0,
            prediction=prediction_agreement(belief_texts(belief.get("prediction")), before, after),
        )

    def _weighs(self, part: str) -> bool:
        return bool(getattr(self._weights, part) > 0)


def form_of(belief: Mapping[str, Any] | None, turn: Turn) -> float:
    """Return what a turn's form is worth."""
    return (UNREADABLE if belief is None else READABLE) + (0.0 if turn.is_valid else INVALID)


def state_agreement(items: Sequence[str], before: set[str], after: set[str]) -> float:
    """Return the share of right items less a tenth for each wrong one, of those that are news; 0 without any."""
    news = [item for item in map(words, items) if item - before]
    if not news:
        return 0.0
    right = sum(item <= after for item in news)
    return max(-1.0, right / len(news) - WRONG_ITEM * (len(news) - right))


def prediction_agreement(texts: Sequence[str], before: set[str], after: set[str]) -> float:
    """Return the share of the words not read before that came true; 0 without any."""
    news = words(" ".join(texts)) - before
    return len(news & after) / len(news) if news else 0.0


def words(text: str) -> set[str]:
    """Return a text's words of at least two letters or digits, in lower case."""
    return set(_WORD.findall(text.casefold()))


def _tracked(turn: Turn) -> dict[str, float]:
    """Return what the environment's tracker said of each part."""
    return {
        event.channel.removeprefix(PREFIX): event.value
        for event in turn.events
        if event.channel.startswith(PREFIX) and event.channel.removeprefix(PREFIX) in PARTS
    }


def _read(trajectory: Trajectory, turn: int) -> set[str]:
    """Return the words of everything that was read up to a turn."""
    return words("\n".join(one.observation for one in trajectory.turns[: turn + 1]))


def _next(trajectory: Trajectory, turn: int) -> str:
    """Return what the action led to; nothing for one that could not be carried out."""
    return trajectory.turns[turn + 1].observation if trajectory.turns[turn].is_valid else ""


def _phase_agreement(trajectory: Trajectory, turn: int, belief: Mapping[str, Any]) -> float:
    """Return 1 if the belief names the true phase, otherwise 0; JudgeError for a task without phases."""
    phases = gold_of(trajectory).get("phases")
    if not (isinstance(phases, Mapping) and phases):
        raise JudgeError("the task's gold has no `phases`; with `task: 0` none are needed")
    read = "\n".join(one.observation for one in trajectory.turns[: turn + 2]).casefold()
    reached = [name for name, texts in phases.items() if not texts or any(text.casefold() in read for text in texts)]
    return float(bool(reached) and str(belief.get("task", "")).strip().casefold() == reached[-1].strip().casefold())


def _untold(parts: BeliefScores | None) -> str:
    return ", ".join(part for part in PARTS if parts is not None and getattr(parts, part) is None)


def _shown(parts: BeliefScores | None) -> str:
    if parts is None:
        return "no readable belief"
    return ", ".join(f"{part} {getattr(parts, part):.2f}" for part in PARTS)
