"""`turnwise/Household-v0`: find things in a room, treat them, put them where they belong; ALFWorld's shape.

What lies in a receptacle is seen by going there, and by opening it. Rewards: `outcome` (1 when the goal is reached,
which ends the episode), `progress` (the share of the goal's phases gone through, each paid once), `format` (-1 for a
text that is no command), and for an action with a belief `belief/state`, `belief/task` and `belief/prediction`, for the
scorer `belief` with `by: events`. A command that cannot be carried out is answered `Nothing happens.`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from turnwise.env import TurnEnv
from turnwise.env.beliefs import CLOSE, OPEN, split_belief
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.arguments import probability, some_of, truth, whole
from turnwise_envs.household.beliefs import agreement, foretold, key_of, known_facts
from turnwise_envs.household.goal import GOALS
from turnwise_envs.household.house import Command, House, read_command
from turnwise_envs.household.lexicon import FORMS, NOTHING, ROOMS
from turnwise_envs.household.planner import next_search, plan
from turnwise_envs.household.task import Shape, draw_task

_INSTRUCTIONS = f"Do the task in the room. Answer with one command: {', '.join(FORMS.values())}."
_BELIEFS = (
    f' Before it, say what you believe: {OPEN}{{"state": ["mug 1 in shelf 2", "mug 1 hot", "holding nothing", '
    '"searched shelf 2"], "task": "find, clean, heat, cool, place or light", "prediction": ["what you will see"]}'
    f"{CLOSE}"
)


class HouseholdEnv(TurnEnv):
    """Chores in a room."""

    sample_actions = ("look", "inventory", "go to shelf 1", "open drawer 1", "take mug 1 from shelf 1", "dance")

    def __init__(
        self,
        *,
        goals: str | Sequence[str] | None = None,
        rooms: str | Sequence[str] | None = None,
        receptacles: int = 8,
        things: int = 8,
        max_turns: int = 30,
        admissible: bool = False,
        beliefs: bool = False,
        mistakes: float = 0.1,
        render_mode: str | None = None,
    ) -> None:
        """Set up the rooms; UserError for a value that does not fit.

        `goals` and `rooms`: kinds to draw from, all by default. `receptacles` and `things`: numbers in a room.
        `admissible`: whether messages list the commands that can be carried out. `beliefs`: whether instructions ask
        for beliefs and demonstrations state them. `mistakes`: probability that a demonstrated command is random.
        """
        self._shape = Shape(
            goals=some_of("goals", goals, GOALS),
            rooms=some_of("rooms", rooms, list(ROOMS)),
            num_receptacles=whole("receptacles", receptacles, 5, 20),
            num_things=whole("things", things, 3, 30),
        )
        if not all(self._shape.choices(split) for split in ("train", "eval")):
            raise UserError("env.kwargs.goals", goals, "no such goals in these rooms", "allow other goals or rooms")
        self.max_turns = whole("max_turns", max_turns, 1, 1000)
        self._admissible, self._beliefs = truth("admissible", admissible), truth("beliefs", beliefs)
        self._mistakes = probability("mistakes", mistakes)
        self.instructions = _INSTRUCTIONS + _BELIEFS * self._beliefs
        super().__init__(render_mode)
        self._task = draw_task(self._shape, np.random.default_rng(0), None)
        self._house = self._task.house
        self._belief: dict[str, Any] | None = None  # the one stated last, with the last action
        self._progress = 0.0  # the most so far

    def begin(self, options: Mapping[str, Any]) -> str:
        """Draw the task, and say what room it is, what is in it, and what is to be done."""
        self._task = draw_task(self._shape, self.np_random, options.get("split"))
        self._house, self._belief, self._progress = self._task.house, None, 0.0
        room, receptacles = self._task.room, ", ".join(self._house.receptacles)
        return self._shown(f"You are in a {room}. You see {receptacles}. Your task: {self._task.goal}.")

    def act(self, action: Message) -> str:
        """Carry out a command; a belief beside it is compared with what is so, and with what comes of the command."""
        self._belief, text = split_belief(str(action["content"]))
        if self._belief is None:
            return self._shown(self._obey(read_command(text)))
        for part, value in agreement(self._belief, self._house, self._task.goal).items():
            self.reward(f"belief/{part}", value)
        answer = ""
        try:
            answer = self._obey(read_command(text))
        finally:
            self.reward("belief/prediction", foretold(self._belief, text, answer))
        return self._shown(answer)

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a text that is no command on the channel `format`."""
        self.reward("format", -1.0)

    def state_key(self) -> str:
        """Return a digest of the room and of what was seen of it."""
        return self._house.key()

    def belief_key(self) -> str | None:
        """Return a digest of the belief that was stated with the last action, but for what was searched."""
        return None if self._belief is None else key_of(self._belief, self._task.goal)

    def gold(self) -> dict[str, Any]:
        """Return the task, a shortest solution, and texts that mark the phases where each comes once."""
        goal = self._task.goal
        gold = {"question": str(goal), "answer": "; ".join(map(str, plan(self._house, goal)))}
        marks = ((), (f"You take the {goal.thing}",), (f"You {goal.verb} the {goal.thing}",))
        phases = {phase: list(texts) for phase, texts in zip(goal.phases, marks, strict=False)}
        return gold if goal.number > 1 else {**gold, "phases": phases}

    def oracle(self, action: str) -> float:
        """Return 1 for a command on a shortest way of one who knows all, 0 for another, -1 for one without effect."""
        house = self._house.copy()
        try:
            answer = house.do(read_command(split_belief(action)[1]))
        except InvalidAction:
            return -1.0
        if answer == NOTHING:
            return -1.0
        before, after = (len(plan(its, self._task.goal)) for its in (self._house, house))
        return float(after < before)

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return the next command of one who knows what was seen, searches in order, and errs now and then."""
        known, goal = self._house.known(), self._task.goal
        able = self._house.admissible()
        best = [*plan(known, goal)[:1], next_search(self._house)][0]
        command = able[int(rng.integers(len(able)))] if rng.random() < self._mistakes else best
        return f"{self._demonstrated_belief(known, command)}{command}"

    def _demonstrated_belief(self, known: House, command: Command) -> str:
        """Return the belief that what was seen supports, in front of a command; nothing unless beliefs are stated."""
        if not self._beliefs:
            return ""
        goal = self._task.goal
        state, phase = known_facts(known, goal), goal.phase(known)
        answer = known.do(command)
        belief = {"state": state, "task": phase, "prediction": [answer]}
        return f"{OPEN}{json.dumps(belief)}{CLOSE} "

    def _obey(self, command: Command) -> str:
        """Carry out a command and pay for what it achieved."""
        answer = self._house.do(command)
        progress = self._task.goal.progress(self._house)
        if progress > self._progress:
            self.reward("progress", progress - self._progress)
            self._progress = progress
        if progress == 1.0:
            self.reward("outcome", 1.0)
            self.finish()
            return f"{answer} Done."
        return answer

    def _shown(self, answer: str) -> str:
        if not self._admissible or self._episode.is_over:
            return answer
        return f"{answer} Commands: {', '.join(map(str, self._house.admissible()))}."
