"""`turnwise/TextArena-v0`: the games for one player of the package textarena.

What a game says to its player since the last turn is the observation; the words are the action, in brackets where the
game wants them. Rewards: `outcome`, the game's own at its end (-1 to 1), `format`, -1 for a move that it calls invalid.
A game's random numbers are the process's: here each episode has its own, from the task's seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnwise.env import TurnEnv
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.adapters.bounded import Bounded
from turnwise_envs.adapters.chance import Chance
from turnwise_envs.adapters.package import by_name, known, load, made
from turnwise_envs.arguments import whole

ENV_ID = "turnwise/TextArena-v0"
RAW = "-raw"
"""A game as it is, without the wrappers that tell its whole history every turn."""

LOST = -1.0
"""What invalid moves cost at the end, unless a game says otherwise."""


class TextArenaEnv(TurnEnv):
    """Play a game of textarena."""

    licence = "MIT"
    needs = "textarena"
    sample_actions = ("[1]", "[5]", "[up]", "[0 1]", "[A B]", "7", "hello")

    def __init__(
        self,
        *,
        id: str = "GuessTheNumber-v0",
        kwargs: Mapping[str, Any] | None = None,
        max_turns: int = 100,
        render_mode: str | None = None,
    ) -> None:
        """Make the game; UserError for an id that it does not know, or a game for several.

        `id`: a name in textarena's registry, without `-raw`. `kwargs`: arguments of the game. `max_turns`: the limit
        on turns, besides the game's own.
        """
        super().__init__(render_mode)
        load(ENV_ID, "textarena", "textarena==0.7.4")
        registry = load(ENV_ID, "textarena.envs.registration", "textarena==0.7.4")
        names = [name.removesuffix(RAW) for name in registry.ENV_REGISTRY if name.endswith(RAW)]
        name, given = known("id", id, names), by_name("kwargs", kwargs)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self._chance = Chance(0)
        with self._chance():
            self._game = made("id", name, given, lambda: _begun(registry.make(f"{name}{RAW}", **given)))
        if not hasattr(self._game.state, "error_count") or self._game.state.num_players != 1:
            raise UserError("env.kwargs.id", id, "no game for one player", "choose one for one player")
        self._earned = Bounded()

    def begin(self, options: Mapping[str, Any]) -> str:
        """Reset the game with the task's seed."""
        self._chance, self._earned = Chance(self.task_seed), Bounded()
        with self._chance():
            self._game.reset(num_players=1, seed=self.task_seed)
            return self._said()

    def act(self, action: Message) -> str:
        """Make a move; InvalidAction for one that the game calls so, which may cost the game."""
        text = str(action["content"]).strip()
        state, errors = self._game.state, self._game.state.error_count
        with self._chance():
            is_over, _ = self._game.step(text if "[" in text else f"[{text}]")
            said = self._said()
        is_invalid = state.error_count > errors or bool(state.game_info[0].get("invalid_move"))
        if is_over:
            reward, reason = self._verdict()
            self.reward("outcome", self._earned.add(reward))
            self.finish()
            said = " ".join(part for part in (said, reason) if part)
        if is_invalid:
            raise InvalidAction(said or "this move is invalid")
        return said or "over"

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark an invalid move on the channel `format`."""
        self.reward("format", -1.0)

    def _verdict(self) -> tuple[Any, str]:
        """Return the game's reward and its reason; some games mistake the one for the other after invalid moves."""
        rewards, info = self._game.close()
        reward, reason = (rewards or {}).get(0), str(info[0].get("reason") or "")
        return (LOST, reward) if isinstance(reward, str) else (reward, reason)

    def _said(self) -> str:
        """Return what the game has said since it was last asked, without the player's own words."""
        _, messages = self._game.get_observation()
        return "\n".join(str(text) for speaker, text, _ in messages if speaker != 0).strip()


def _begun(game: Any) -> Any:
    """Return a game after its first reset, which shows whether it is for one player and has its data."""
    game.reset(num_players=1, seed=0)
    return game
