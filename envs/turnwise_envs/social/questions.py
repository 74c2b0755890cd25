"""`turnwise/Questions-v0`: find out by yes/no questions which place is meant, and name it (20 questions).

A task is a small base of facts, shown at the start, and the place that is meant; both are drawn from its seed. What a
perfect reasoner believes after each answer is known, and so is what each question told. Rewards:

- `outcome`, at the guess, which ends the episode: 1 or 0
- `info_gain`, for a question: the bits by which its answer lowered the entropy over places (Nous; arXiv 2510.27410);
  below 0 where a wrong answer misled
- `curiosity`, for a question: by how much its answer raised the probability of the true place (arXiv 2504.03206)
- `format`: -1 for an action that cannot be carried out

Both add up over an episode to what it ends with less what it began with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from turnwise.env import ToolEnv, tool
from turnwise.errors import InvalidAction
from turnwise_envs.arguments import probability, whole
from turnwise_envs.social.knowledge import Knowledge, draw_knowledge, entropy, expected_gain, updated
from turnwise_envs.social.lexicon import ATTRIBUTES, PLACES

_SPARE_TURNS = 3  # beyond the questions that the best reasoner needs, the guess among them
_SURE = 0.95  # the belief at which the demonstrator guesses


class QuestionsEnv(ToolEnv):
    """Ask about attributes, then guess."""

    instructions = (
        "One of the places below is meant. ask(attribute) says whether it has an attribute, yes or no; guess(entity) "
        "names it, once. Ask what halves the places that are left."
    )
    sample_actions = ("ask big", "ask red", "ask is_old", "guess Oslo", "hello")

    def __init__(
        self,
        *,
        num_entities: int = 8,
        num_attributes: int = 6,
        noise: float = 0.0,
        max_turns: int | None = None,
        mistakes: float = 0.2,
        render_mode: str | None = None,
    ) -> None:
        """Set up the facts; UserError for a value that does not fit.

        `num_entities`: places, 2 to 40. `num_attributes`: up to 22, and one more than it takes to tell them apart.
        `noise`: probability that an answer is wrong, up to 0.4. `max_turns`: by default as many as it takes to tell the
        places apart, and 3. `mistakes`: probability that a demonstrated action is a random one.
        """
        super().__init__(render_mode)
        self._num_entities = whole("num_entities", num_entities, 2, len(PLACES))
        bits = math.ceil(math.log2(self._num_entities))
        self._num_attributes = whole("num_attributes", num_attributes, bits + 1, len(ATTRIBUTES) - 2)
        self._noise = probability("noise", noise, 0.4)
        self.max_turns = bits + _SPARE_TURNS if max_turns is None else whole("max_turns", max_turns, 1, 1000)
        self._mistakes = probability("mistakes", mistakes)
        self._facts: Knowledge | None = None
        self._truth = 0  # number of the place that is meant
        self._belief = np.ones(1)
        self._is_wrong = np.zeros(1, dtype=bool)  # [max_turns] whether the answer of a turn is wrong

    def begin(self, options: Mapping[str, Any]) -> str:
        """Draw facts and a place, and show the facts."""
        rng = self.np_random
        is_eval = options.get("split") == "eval"
        self._facts = draw_knowledge(rng, self._num_entities, self._num_attributes, is_eval)
        self._truth = int(rng.integers(self._num_entities))
        self._is_wrong = rng.random(self.max_turns) < self._noise
        self._belief = np.full(self._num_entities, 1.0 / self._num_entities)
        return f"{self._facts.text()} which one?"

    @tool
    def ask(self, attribute: str) -> str:
        """Ask whether the place has an attribute; the answer is yes or no.

        attribute: one word, such as big
        """
        column = self._column(attribute)
        answer = bool(column[self._truth]) != bool(self._is_wrong[self.num_turns - 1])
        belief = updated(self._belief, column, answer, self._noise)
        self.reward("info_gain", entropy(self._belief) - entropy(belief))
        self.reward("curiosity", float(belief[self._truth] - self._belief[self._truth]))
        self._belief = belief
        return "yes" if answer else "no"

    @tool
    def guess(self, entity: str) -> str:
        """Name the place, which ends the episode.

        entity: its name
        """
        is_right = self._place(entity) == self._truth
        self.reward("outcome", float(is_right))
        self.finish()
        return "right" if is_right else "wrong"

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed action on the channel `format`."""
        self.reward("format", -1.0)

    def gold(self) -> dict[str, Any]:
        """Return the question, the place that is meant and its attributes."""
        facts = self._known
        answer = facts.entities[self._truth]
        return {"question": f"{facts.text()} which one?", "answer": answer, "attributes": facts.of(answer)}

    def guide(self) -> str:
        """Return how many places the failed episode had left, and how to ask."""
        left = int((self._belief > self._belief.max() / 2).sum())
        return f"{left} places were left; ask what halves them, and guess when one is left"

    def state_key(self) -> str:
        """Return a digest of the facts, the exact belief and the turn."""
        return self._digest(f"{self._known.text()}\x1f{self.num_turns}") if self._facts is not None else ""

    def belief_key(self) -> str:
        """Return a digest of what a perfect reasoner believes by now, whatever the policy says."""
        return self._digest("")

    def oracle(self, action: str) -> float:
        """Return a question's expected gain relative to the best one's, and for a guess twice its chance less 1.

        A question in the last turn, or where none tells anything, is worth 0; a malformed action -1.
        """
        try:
            call = self.read_call({"role": "assistant", "content": action})
            if call.name == "guess":
                return 2.0 * float(self._belief[self._place(call.arguments["entity"])]) - 1.0
            gain = expected_gain(self._belief, self._column(call.arguments["attribute"]), self._noise)
        except InvalidAction:
            return -1.0
        best = max(self._gains())
        return gain / best if best > 1e-9 and self._turns_left > 1 else 0.0

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return the most telling question, or a guess when sure or out of turns; now and then a random action."""
        facts, gains = self._known, self._gains()
        if rng.random() < self._mistakes:
            is_guess = rng.random() < 0.2
            return f"guess {rng.choice(facts.entities)}" if is_guess else f"ask {rng.choice(facts.attributes)}"
        if self._turns_left <= 1 or self._belief.max() > _SURE or max(gains) < 1e-9:
            return f"guess {facts.entities[int(self._belief.argmax())]}"
        return f"ask {facts.attributes[int(np.argmax(gains))]}"

    @property
    def _known(self) -> Knowledge:
        if self._facts is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._facts

    @property
    def _turns_left(self) -> int:
        return (self.max_turns or 0) - self.num_turns

    def _gains(self) -> list[float]:
        return [expected_gain(self._belief, column, self._noise) for column in self._known.has.T]

    def _column(self, attribute: str) -> Any:
        """Return which places have an attribute, [num_entities]; InvalidAction for an unknown one."""
        name = attribute.lower().strip(" ?.").removeprefix("is").lstrip("_ ")
        if name not in self._known.attributes:
            raise InvalidAction(f"nothing is known of {name[:40]}; ask one of {', '.join(self._known.attributes)}")
        return self._known.has[:, self._known.attributes.index(name)]

    def _place(self, entity: str) -> int:
        """Return the number of a place; InvalidAction for an unknown one."""
        names = [name.lower() for name in self._known.entities]
        if (name := entity.lower().strip(" ?.")) not in names:
            raise InvalidAction(f"no place {name[:40]}; expected one of {', '.join(self._known.entities)}")
        return names.index(name)

    def _digest(self, more: str) -> str:
        belief = " ".join(f"{value:.6f}" for value in self._belief)
        return blake2b(f"{belief}\x1f{more}".encode(), digest_size=8).hexdigest()
