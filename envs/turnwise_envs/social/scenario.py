"""What two people talk about: a price, how to share items, or a time to meet; drawn from a seed.

A scenario lists every possible deal and what it is worth to both beyond no deal, so that each score is exact. Deals
are written from the agent's side: a price `(62,)`, the number of items of each kind that the agent gets `(2, 0, 1)`,
a day's number and an hour `(0, 14)`. There always are deals from which both gain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from turnwise_envs.social.lexicon import DAYS, GOODS, PEOPLE, SECRETS, is_held_out

Deal = tuple[int, ...]

Value = TypeVar("Value")

KINDS = ("price", "items", "meeting")
HOURS = (9, 11, 14, 16)
AGENT, PARTNER = 0, 1

_BUSY = 3  # what a time costs that is not free
_FREE = 0.6  # probability that a time is free
_NO_DEAL = 0.3  # of the worth of all items is what each has without a deal
_LEAST_BEST = 3  # that the agent can gain from a deal that the partner gains from


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One conversation's stakes; pairs are (agent, partner)."""

    kind: str  # one of `KINDS`
    words: tuple[str, ...]  # the good, the kinds of items, or the days
    counts: tuple[int, ...]  # items of each kind; empty for prices and meetings
    gains: Mapping[Deal, tuple[int, int]]  # what each deal is worth to both, beyond no deal
    goals: tuple[str, str]  # what each knows and wants, for its eyes alone
    facts: tuple[str, ...]  # what the partner may tell of its goal, in order
    names: tuple[str, str]
    secrets: tuple[str, str]  # one word each, not to be told

    @cached_property
    def most(self) -> tuple[int, int]:
        """The most that each can gain while the other gains; 0 if there is no such deal."""
        return _pair(lambda side: max((gain[side] for gain in self.gains.values() if gain[1 - side] > 0), default=0))

    def goal(self, side: int, deal: Deal | None) -> float:
        """Return a side's gain as a share of the most that it can gain while the other gains; at least -1."""
        return 0.0 if deal is None else max(-1.0, min(1.0, self.gains[deal][side] / self.most[side]))

    def agreement(self, deal: Deal | None) -> float:
        """Return the joint gain as a share of the best deal's that is no worse for either; 1 if Pareto optimal."""
        if deal is None or min(self.gains[deal]) < 0 or not sum(self.gains[deal]):
            return 0.0
        mine, theirs = self.gains[deal]
        return (mine + theirs) / max(sum(gain) for gain in self.gains.values() if gain[0] >= mine and gain[1] >= theirs)

    def spell(self, deal: Deal) -> str:
        """Return a deal in the words in which an agent offers it."""
        if self.kind == "price":
            return str(deal[0])
        if self.kind == "meeting":
            return f"{self.words[deal[0]]} {deal[1]}"
        return " ".join(f"{count} {word}" for count, word in zip(deal, self.words, strict=True) if count) or "nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class _People:
    """Who talks."""

    names: tuple[str, str]
    secrets: tuple[str, str]


def draw_scenario(rng: np.random.Generator, kinds: Sequence[str], is_eval: bool) -> Scenario:
    """Draw a scenario of one of the kinds; the words of held-out ones are together in no training scenario."""
    draws = {"price": _draw_price, "items": _draw_items, "meeting": _draw_meeting}
    draw = draws[kinds[int(rng.integers(len(kinds)))]]
    names, secrets = (rng.choice(words, 2, replace=False) for words in (PEOPLE, SECRETS))
    people = _People(names=(str(names[0]), str(names[1])), secrets=(str(secrets[0]), str(secrets[1])))
    while True:
        scenario = draw(rng, people, is_eval)
        if _is_worth_talking(scenario):
            return scenario


def _draw_price(rng: np.random.Generator, people: _People, is_eval: bool) -> Scenario:
    """The agent buys or sells; each knows what the good is worth to itself."""
    seller = int(rng.integers(2))
    good = GOODS[_draw_words(rng, GOODS, 1, is_eval, seller)[0]]
    usual = 10 * int(rng.integers(4, 13))
    low, high = (int(usual * (0.5 + rng.uniform(*span))) for span in ((0.05, 0.35), (0.65, 0.95)))

    def gain(side: int, price: int) -> int:
        return price - low if side == seller else high - price

    def goal(side: int) -> str:
        if side == seller:
            return f"You sell a {good} to {people.names[1 - side]}. It is worth {low} to you: get as much as you can."
        return f"You buy a {good} from {people.names[1 - side]}. It is worth {high} to you: pay as little as you can."

    about = round(low if seller == PARTNER else high, -1)
    return Scenario(
        kind="price",
        words=(good,),
        counts=(),
        gains={(price,): _pair(partial(gain, price=price)) for price in range(usual // 2, usual * 3 // 2 + 1)},
        goals=_pair(goal),
        facts=(f"it is worth about {about} to me",),
        names=people.names,
        secrets=people.secrets,
    )


def _draw_items(rng: np.random.Generator, people: _People, is_eval: bool) -> Scenario:
    """They share items of three kinds, which are not worth the same to both."""
    words = tuple(GOODS[number] for number in _draw_words(rng, GOODS, 3, is_eval))
    counts = tuple(int(count) for count in rng.integers(1, 4, size=3))
    worth = rng.integers(0, 10, size=(2, 3))  # [side, kind]
    without = [round(_NO_DEAL * int(worth[side] @ counts)) for side in (AGENT, PARTNER)]
    items = ", ".join(f"{count} {word}" for count, word in zip(counts, words, strict=True))

    def gain(side: int, deal: Deal) -> int:
        return int(worth[side] @ (deal if side == AGENT else np.subtract(counts, deal))) - without[side]

    def goal(side: int) -> str:
        values = ", ".join(f"{word} {value}" for word, value in zip(words, worth[side], strict=True))
        other = people.names[1 - side]
        return f"You share {items} with {other}. Worth to you: {values}. Without a deal you have {without[side]}."

    most, least = words[int(worth[PARTNER].argmax())], words[int(worth[PARTNER].argmin())]
    deals = itertools.product(*(range(count + 1) for count in counts))
    return Scenario(
        kind="items",
        words=words,
        counts=counts,
        gains={deal: _pair(partial(gain, deal=deal)) for deal in deals},
        goals=_pair(goal),
        facts=(f"i want {most} most", f"i want {least} least"),
        names=people.names,
        secrets=people.secrets,
    )


def _draw_meeting(rng: np.random.Generator, people: _People, is_eval: bool) -> Scenario:
    """They look for a time at which both are free; some times are worth more than others."""
    days = tuple(DAYS[number] for number in _draw_words(rng, DAYS, 3, is_eval))
    times = list(itertools.product(range(len(days)), HOURS))
    free, values = rng.random((2, len(times))) < _FREE, rng.integers(1, 10, size=(2, len(times)))
    worth = [dict(zip(times, map(int, row), strict=True)) for row in np.where(free, values, -_BUSY)]

    def goal(side: int) -> str:
        mine = [f"{days[day]} {hour} worth {value}" for (day, hour), value in worth[side].items() if value > 0]
        return (
            f"You meet {people.names[1 - side]} on {', '.join(days)} at {', '.join(map(str, HOURS))}. "
            f"You are free: {', '.join(mine)}. Other times cost you {_BUSY}."
        )

    def fact(day: int) -> str:
        hours = [str(hour) for hour in HOURS if worth[PARTNER][day, hour] > 0]
        return f"on {days[day]} i am free at {', '.join(hours)}" if hours else f"i am not free on {days[day]}"

    return Scenario(
        kind="meeting",
        words=days,
        counts=(),
        gains={time: (worth[AGENT][time], worth[PARTNER][time]) for time in times},
        goals=_pair(goal),
        facts=tuple(map(fact, range(len(days)))),
        names=people.names,
        secrets=people.secrets,
    )


def _is_worth_talking(scenario: Scenario) -> bool:
    """Whether the agent can gain something, and not much from the deal with which the partner begins."""
    if scenario.most[AGENT] < _LEAST_BEST or scenario.most[PARTNER] < 1:
        return False
    most = max(gain[PARTNER] for gain in scenario.gains.values())
    return all(scenario.goal(AGENT, deal) < 0.5 for deal, gain in scenario.gains.items() if gain[PARTNER] == most)


def _draw_words(rng: np.random.Generator, words: Sequence[str], count: int, is_eval: bool, role: int = 0) -> list[int]:
    """Return the numbers of different words that are together in tasks of this split only, in order."""
    while True:
        numbers = sorted(int(number) for number in rng.choice(len(words), count, replace=False))
        if is_held_out([*numbers, role]) == is_eval:
            return numbers


def _pair(of: Callable[[int], Value]) -> tuple[Value, Value]:
    return of(AGENT), of(PARTNER)
