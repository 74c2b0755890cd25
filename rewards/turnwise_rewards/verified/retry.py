"""The scorer `retry`: several answers to one question, the earlier the better (UFO; algorithms.md 4.11; 2507.14295).

For environments that answer a wrong answer with no more than that it is wrong. An answer that succeeds at the t-th
attempt is worth gamma^(t - 1) at its turn; at the last turn, repeated answers cost lam (1 - distinct / attempts), after
a failure too. So an episode adds up to the two, and giving an answer again gains nothing and costs something.
"""

# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from turnwise.config import key
from turnwise.env.attempts import attempt_reward, repetition_penalty
from turnwise.records import Group, Score, Trajectory
from turnwise_rewards.marks import mark, missing
from turnwise_rewards.reading import ANSWER_TOOLS

CHANNEL = "retry"


@dataclass
class RetryConfig:
    """Options of `retry`."""

    gamma: float = key(0.5, "factor on a success for each attempt before it", at_least=0, at_most=1)
    penalty: float = key(0.5, "what it costs if all answers were one and the same, nearly", at_least=0)
    success: str = key("outcome", "the channel of the environment's events that is above 0 at a right answer")
    tools: list[str] = key(
        sorted(ANSWER_TOOLS), "tools that answer; in an episode without any call, every valid action is an answer"
    )


class Retry:
    """The scorer `retry`."""

    Config: ClassVar[type] = RetryConfig
    version = 0
    channels: tuple[str, ...] = (CHANNEL,)

    def __init__(self, config: RetryConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def score(self, group: Group) -> Sequence[Score]:
        """Return the scores of successes at their turns, and of repetitions at the last ones."""
        return [score for trajectory in group.trajectories for score in self._scores(trajectory)]

    def _scores(self, trajectory: Trajectory) -> list[Score]:
        if not trajectory.turns:
            return []
        answers = answers_of(trajectory, self.config.tools)
        solved = next((turn for turn in range(len(trajectory.turns)) if self._succeeds(trajectory, turn)), None)
        if solved is not None and solved not in answers:
            return [missing(trajectory, CHANNEL, f"turn {solved} succeeds without an answer")]
        attempt = None if solved is None else 1 + sorted(answers).index(solved)
        reward = attempt_reward(attempt, self.config.gamma)
        cost = repetition_penalty(list(answers.values()), self.config.penalty)
        last = len(trajectory.turns) - 1
        told = f"{len(answers)} answers, right at {attempt or 'none'}, repetitions cost {cost:g}"
        if solved is None or solved == last:
            return [mark(trajectory, CHANNEL, reward - cost, last, told)]
        return [mark(trajectory, CHANNEL, reward, solved, told), mark(trajectory, CHANNEL, -cost, last, told)]

    def _succeeds(self, trajectory: Trajectory, turn: int) -> bool:
        events = trajectory.turns[turn].events
        return sum(event.value for event in events if event.channel == self.config.success) > 0


def answers_of(trajectory: Trajectory, tools: Collection[str] = ANSWER_TOOLS) -> dict[int, str]:
    """Return the text of each answer by its turn, in order; actions that could not be carried out are none."""
    turns = [(index, turn) for index, turn in enumerate(trajectory.turns) if turn.is_valid]
    if all(turn.call is None for _, turn in turns):
        return {index: turn.action for index, turn in turns}
    return {
        index: next((value for value in turn.call["arguments"].values() if isinstance(value, str)), "")
        for index, turn in turns
        if turn.call is not None and turn.call["name"] in tools
    }
