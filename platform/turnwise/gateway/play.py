"""The environment of an episode that a program plays: it acts through it, and what came of it is kept for the turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from turnwise.agent import told
from turnwise.gateway.refusal import Refused
from turnwise.gateway.spans import Deed
from turnwise.records import Message
from turnwise.rollout.world import Answer, Opening


class Play:
    """One episode, until the environment ends it or fails."""

    def __init__(self, opening: Opening, step: Callable[[Message], Awaitable[Answer]]) -> None:
        """`step` carries out one assistant message in a world that has shown `opening`."""
        self.opening = opening
        self.deeds: list[Deed] = []
        self.is_terminated = self.is_truncated = False
        self.error: Exception | None = None  # the environment's failure, which ended the episode
        self._step, self._lock, self._is_closed = step, asyncio.Lock(), False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is carried out."""
        return self.is_terminated or self.is_truncated or self.error is not None

    @property
    def prompt(self) -> str:
        """What a program is told at the start: the environment's instructions and its first observation."""
        return told(self.opening.instructions, self.opening.messages)

    async def act(self, action: Message, after: int) -> Answer:
        """Carry out one action, which the program took after so many replies; Refused once the episode is over.

        It is carried out and counts even if whoever asked for it leaves meanwhile.
        """
        return await asyncio.shield(self._act(action, after))

    async def close(self) -> None:
        """Carry out nothing more, since the world is another episode's soon; what is under way ends first."""
        self._is_closed = True
        async with self._lock:
            pass

    async def _act(self, action: Message, after: int) -> Answer:
        async with self._lock:
            if self.is_over or self._is_closed:
                raise Refused("the episode is over", status=403, code="episode_over")
            try:
                answer = await self._step(action)
            except Exception as error:
                self.error = error
                raise
            self.is_terminated, self.is_truncated = answer.terminated, answer.truncated
            self.deeds.append(
                Deed(
                    after=after,
                    is_valid=answer.is_valid,
                    seconds=answer.seconds,
                    events=answer.events,
                    info=answer.info,
                )
            )
            return answer
