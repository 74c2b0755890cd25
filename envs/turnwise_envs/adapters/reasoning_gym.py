"""`turnwise/ReasoningGym-v0`: the generated puzzles of the package reasoning-gym, a question and an answer each.

A task is drawn from its seed, so held-out tasks differ by seed; where a dataset has a stock of its own (`arc_agi`, say)
`eval_config` can name another part of it. Reward: `outcome`, the dataset's own score of the first answer (0 to 1), and
`format`, -1 for an action that is no answer. Within `turnwise/TryAgain-v0` wrong answers may be corrected.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from turnwise.env import TurnEnv
from turnwise.errors import EnvError, InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.adapters.chance import Chance
from turnwise_envs.adapters.package import by_name, known, load, made
from turnwise_envs.arguments import truth

ENV_ID = "turnwise/ReasoningGym-v0"

EVALUATE = frozenset(
    ("binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24")
) | {"simple_integration", "spiral_matrix", "string_insertion"}
"""Datasets that score an answer by evaluating it as Python, in this process."""

BY_HASH = ("isomorphic_strings", "polynomial_multiplication", "ransom_note")
"""Datasets whose questions depend on the order of a set: on the process, then, while texts are hashed at random."""

SOLVER = "pycosat"
"""A package to be compiled, that `zebra_puzzles` needs and the import of all asks for."""

UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, SyntaxError)


class ReasoningGymEnv(TurnEnv):
    """Answer a question."""

    licence = "Apache-2.0"
    needs = "reasoning-gym"
    instructions = "Answer the question. Write the final answer, and nothing else, between <answer> and </answer>."
    sample_actions = ("<answer>7</answer>", "7", "It is <answer>yes</answer>", "hello")
    max_turns = 3

    def __init__(
        self,
        *,
        dataset: str = "leg_counting",
        config: Mapping[str, Any] | None = None,
        eval_config: Mapping[str, Any] | None = None,
        unsafe_eval: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Make the dataset; UserError for a name or a configuration that it does not know.

        `config`: fields of the dataset's configuration, without seed and size; `eval_config`: for held-out tasks, as
        `config` unless given. `unsafe_eval`: allow datasets that evaluate answers as Python in the worker's process.
        """
        super().__init__(render_mode)
        self._package = load_reasoning_gym(ENV_ID)
        self._name = known("dataset", dataset, tuple(self._package.factory.DATASETS))
        if self._name in EVALUATE and not truth("unsafe_eval", unsafe_eval):
            problem = "its score evaluates the policy's answers as Python in this process"
            raise UserError("env.kwargs.dataset", dataset, problem, "set unsafe_eval=true, or choose another")
        if self._name in BY_HASH and os.environ.get("PYTHONHASHSEED", "random") == "random":
            problem = "another process would draw other questions from the same seeds"
            remedy = "set PYTHONHASHSEED=0 for all processes, or choose another"
            raise UserError("env.kwargs.dataset", dataset, problem, remedy)
        self._configs = {"train": by_name("config", config), "eval": by_name("eval_config", eval_config or config)}
        for split, field in (("train", "config"), ("eval", "eval_config")):
            made("dataset", self._name, self._configs[split], partial(self._entry_of, split, 0), given_as=field)
        self._entry: dict[str, Any] | None = None
        self._chance = Chance(0)

    def begin(self, options: Mapping[str, Any]) -> str:
        """Generate the question of the task's seed."""
        self._chance = Chance(self.task_seed)
        with self._chance():
            self._dataset, self._entry = self._entry_of(options.get("split") or "train", self.task_seed)
        return str(self._entry["question"])

    def act(self, action: Message) -> str:
        """Score the answer and end the episode."""
        score = self._score(str(action["content"]))
        self.reward("outcome", score)
        self.finish()
        return "correct" if score == 1.0 else "wrong"

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark what is no answer on the channel `format`."""
        self.reward("format", -1.0)

    def oracle(self, action: str) -> float | None:
        """Return the score of an answer."""
        try:
            return None if self._entry is None else self._score(action)
        except InvalidAction:
            return -1.0

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return the dataset's answer; None where it has none, but only scores."""
        answer = None if self._entry is None else self._entry["answer"]
        return f"<answer>{answer}</answer>" if isinstance(answer, str) and answer else None

    def state_key(self) -> str | None:
        """Return the number of actions so far: nothing else changes."""
        return None if self._entry is None else str(self.num_turns)

    def gold(self) -> dict[str, Any] | None:
        """Return question and answer."""
        return None if self._entry is None else {key: str(self._entry[key]) for key in ("question", "answer")}

    def _entry_of(self, split: str, seed: int) -> tuple[Any, dict[str, Any]]:
        config = self._configs.get(split)
        if config is None:
            raise UserError("split", split, "no such split", "give train or eval")
        dataset = self._package.create_dataset(self._name, **{"size": 1, **config, "seed": seed})
        return dataset, dataset[0]

    def _score(self, text: str) -> float:
        """Return the score of what stands between the tags, or of the whole text without any; InvalidAction."""
        answer = text.rpartition("<answer>")[2].partition("</answer>")[0].strip()
        if not answer or len(answer) > 10_000:
            raise InvalidAction("write an answer between <answer> and </answer>")
        try:
            with self._chance():
                score = float(self._dataset.score_answer(answer, self._entry))
        except (*UNREADABLE, RecursionError):
            raise InvalidAction("this answer cannot be read") from None
        if not 0.0 <= score <= 1.0:
            raise EnvError(f"{self._name} scored an answer {score}, not within 0 and 1")
        return score


def load_reasoning_gym(env_id: str) -> ModuleType:
    """Import the package, without `SOLVER` too: in its place stands an empty module for the time of the import."""
    lacks = SOLVER not in sys.modules and importlib.util.find_spec(SOLVER) is None
    if lacks:
        sys.modules[SOLVER] = ModuleType(SOLVER)
    try:
        return load(env_id, "reasoning_gym", "reasoning-gym==0.1.25")
    finally:
        if lacks:
            del sys.modules[SOLVER]
