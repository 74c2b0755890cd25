"""A world that the flow tests of guided attempts bring: a pair of words, of which its hint names the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from turnwise import Message, TurnEnv

WORDS = ("Vera", "Boris", "Clara", "Dmitri", "Elena", "Felix")


class PairEnv(TurnEnv):
    """Shows two words; one of them, which nobody can know, is right."""

    instructions = "Say one of the two words."
    sample_actions = WORDS

    def begin(self, options: Mapping[str, Any]) -> str:
        assert "guidance" not in options
        self.pair = [WORDS[i] for i in self.np_random.permutation(len(WORDS))[:2]]
        self.right = self.pair[int(self.np_random.integers(2))]
        return "What is " + " or ".join(self.pair) + "?"

    def act(self, action: Message) -> str:
        self.said = str(action["content"]).strip()
        self.reward("outcome", float(self.said == self.right))
        self.finish()
        return "over"

    def guide(self) -> str | None:
        return f"not {self.said}" if self.said in self.pair else None

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        return str(rng.choice(self.pair))

    def state_key(self) -> str | None:
        return " ".join(self.pair)


if "flow/Pair-v0" not in gymnasium.registry:
    gymnasium.register("flow/Pair-v0", entry_point=PairEnv, disable_env_checker=True, order_enforce=False)
