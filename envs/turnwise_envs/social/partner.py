"""The scripted partner: a small negotiator with a utility, a temper and limited patience; no chance in it.

It insists on a share of the most that it could gain. The share falls with each offer of the agent's, twice as much with
one that is better for it than all before (who does not move gets little), and with politeness; pressure, insults and a
secret that it is told raise it. To who asks and is polite enough it tells something of its goal. It warns before its
patience ends, and walks away. What it does follows from its `Mood` alone, so what is within reach can be computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from turnwise_envs.social.language import Act, Heard
from turnwise_envs.social.scenario import AGENT, PARTNER, Deal, Scenario

WARMEST = 3
_PER_WARMTH = 0.05  # of the share that it insists on
_FOR_SECRET = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How a partner negotiates; drawn from the task's seed."""

    patience: int  # turns of the agent's until it walks away
    shape: float  # below 1 it concedes early, above 1 late
    floor: float  # the share that it never goes below
    reserve: int  # the warmth at which it tells something of its goal
    temper: int  # the coldness at which it walks away
    is_nosy: bool  # asks for the agent's secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Mood:
    """All that a scripted partner remembers."""

    num_turns: int = 0  # of the agent's
    num_offers: int = 0  # of the agent's
    num_moves: int = 0  # offers that were better for it than all before
    best: int | None = None  # gain from the best of them
    near: Deal | None = None  # the agent's last offer
    warmth: int = 0  # -3 .. 3
    is_told: bool = False  # the agent's secret
    num_facts: int = 0  # that it has told


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a partner answers."""

    text: str
    act: Act  # OFFER, ACCEPT, LEAVE or TALK
    deal: Deal | None = None  # that it offers, or accepts
    is_fact: bool = False  # whether it tells something new of its goal


def draw_style(rng: np.random.Generator, max_turns: int) -> Style:
    """Draw how a partner negotiates; its patience is at an end before the turns are."""
    return Style(
        patience=min(int(rng.integers(5, 9)), max_turns),
        shape=round(float(rng.uniform(0.5, 1.5)), 2),
        floor=round(float(rng.uniform(0.0, 0.15)), 2),
        reserve=int(rng.integers(0, 2)),
        temper=int(rng.integers(2, 4)),
        is_nosy=bool(rng.random() < 0.5),
    )


def warmed(warmth: int, tone: int) -> int:
    """Return how warm a relationship is after an utterance, from -3 to 3."""
    return max(-WARMEST, min(WARMEST, warmth + tone))


def counter(gains: Mapping[Deal, int], least: int, near: Deal | None) -> Deal:
    """Return the deal worth at least so much that is nearest to another's offer, or worth least where there is none."""

    def distance(deal: Deal) -> tuple[int, int]:
        apart = 0 if near is None else sum(abs(a - b) for a, b in zip(deal, near, strict=True))
        return apart, gains[deal]

    return min((deal for deal in gains if gains[deal] >= least), key=distance)


class ScriptedPartner:
    """One episode's partner."""

    def __init__(self, scenario: Scenario, style: Style) -> None:
        """Begin with its best deal on the table."""
        self.scenario, self.style, self.mood = scenario, style, Mood()
        self._gains = {deal: gain[PARTNER] for deal, gain in scenario.gains.items()}
        self._most = max(self._gains.values())
        self._levels = sorted((gain, scenario.goal(AGENT, deal)) for deal, gain in self._gains.items())

    def open(self) -> Reply:
        """Greet and make the first offer."""
        deal = self.offer(self.mood)
        return Reply(text=f"hello. {self._terms(deal)}.", act=Act.OFFER, deal=deal)

    def answer(self, text: str, heard: Heard) -> Reply:
        """Answer an utterance of the agent's that neither accepts nor leaves."""
        before, self.mood = self.mood, self.hear(self.mood, heard)
        mood = self.mood
        if heard.act is Act.OFFER and heard.deal is not None and self.accepts(mood, heard.deal):
            return Reply(text=f"agreed: {self.scenario.spell(heard.deal)}.", act=Act.ACCEPT, deal=heard.deal)
        if self.is_leaving(mood):
            return Reply(text="i will go. no deal.", act=Act.LEAVE)
        is_fact = heard.act is Act.ASK and mood.warmth >= self.style.reserve
        is_fact = is_fact and mood.num_facts < len(self.scenario.facts)
        said = [self._remark(before, mood, heard, is_fact)]
        if is_fact:
            self.mood = replace(mood, num_facts=mood.num_facts + 1)
        deal = self.offer(mood)
        is_last = mood.num_turns == self.style.patience - 1
        said.append(f"{'final offer: ' if is_last else ''}{self._terms(deal)}.")
        if self.style.is_nosy and mood.num_turns == 1:
            said.append("why is that?")
        return Reply(text=" ".join(said), act=Act.OFFER, deal=deal, is_fact=is_fact)

    def key(self) -> str:
        """Return what its further answers depend on."""
        return repr(self.mood)

    def close(self) -> None:
        """Nothing to give back."""

    def hear(self, mood: Mood, heard: Heard) -> Mood:
        """Return its mood after an utterance."""
        gain = None if heard.act is not Act.OFFER or heard.deal is None else self._gains[heard.deal]
        is_move = gain is not None and (mood.best is None or gain > mood.best)
        return replace(
            mood,
            num_turns=mood.num_turns + 1,
            num_offers=mood.num_offers + (gain is not None),
            num_moves=mood.num_moves + is_move,
            best=gain if is_move else mood.best,
            near=mood.near if gain is None else heard.deal,
            warmth=warmed(mood.warmth, heard.tone),
            is_told=mood.is_told or heard.tells,
        )

    def least(self, mood: Mood) -> int:
        """Return the gain that it insists on, at least 1."""
        style = self.style
        progress = min(1.0, (mood.num_offers + mood.num_moves) / max(1, 2 * style.patience - 2))
        share = 1.0 - (1.0 - style.floor) * progress**style.shape
        share += _FOR_SECRET * mood.is_told - _PER_WARMTH * mood.warmth
        return max(1, math.ceil(min(1.0, max(style.floor, share)) * self._most))

    def offer(self, mood: Mood) -> Deal:
        """Return its offer: worth what it insists on, and as near as can be to what the agent last offered."""
        return counter(self._gains, self.least(mood), mood.near)

    def accepts(self, mood: Mood, deal: Deal) -> bool:
        """Whether it takes a deal, once it has heard it."""
        return self._gains[deal] >= self.least(mood)

    def is_leaving(self, mood: Mood) -> bool:
        """Whether it walks away."""
        return mood.warmth <= -self.style.temper or mood.num_turns >= self.style.patience

    def reach(self, mood: Mood) -> float:
        """Return the most of its goal that the agent can still get: polite offers, each the least better one, then the
        best that is taken. What the partner offers is taken too, if it is offered politely.
        """
        best = 0.0
        while not self.is_leaving(mood):
            again = replace(
                mood, num_turns=mood.num_turns + 1, num_offers=mood.num_offers + 1, warmth=warmed(mood.warmth, 1)
            )
            better = replace(again, num_moves=mood.num_moves + 1)
            if_again, if_better = self.least(again), self.least(better)
            refused: int | None = None  # the least better one that is not taken
            for gain, goal in self._levels:
                is_better = mood.best is None or gain > mood.best
                if gain >= (if_better if is_better else if_again):
                    best = max(best, goal)
                elif is_better and refused is None:
                    refused = gain
            mood = again if refused is None else replace(better, best=refused)
        return best

    def reach_after(self, mood: Mood, heard: Heard) -> float:
        """Return the most that the agent can still get once it has said something that neither accepts nor leaves."""
        after = self.hear(mood, heard)
        if heard.act is Act.OFFER and heard.deal is not None and self.accepts(after, heard.deal):
            return self.scenario.goal(AGENT, heard.deal)
        return self.reach(after)

    def _remark(self, before: Mood, mood: Mood, heard: Heard, is_fact: bool) -> str:
        """Return what it says besides its offer."""
        if heard.tone < 0:
            return "do not press me." if heard.tone == -1 else "that is rude."
        if is_fact:
            return f"{self.scenario.facts[mood.num_facts]}."
        if heard.act is Act.OFFER:
            return "not that." if mood.num_moves > before.num_moves else "you do not move."
        if heard.act is Act.UNCLEAR:
            return heard.problem if heard.problem.endswith("?") else f"{heard.problem}."
        if heard.act is Act.ASK:
            return "that is all i say."
        return "thanks." if heard.tone > 0 else "i see."

    def _terms(self, deal: Deal) -> str:
        return f"{'you get' if self.scenario.kind == 'items' else 'i offer'} {self.scenario.spell(deal)}"
