"""From what a program asked to turns: requests that extend what was there are one span, others begin a new one.

A span is a context of the learner's (`Turn.starts_context`). Only sampled tokens are trained on: what the program, its
tools or an edit of its history added in between is observation. Decided by tokens alone, request after request, so that
the next one goes on with the latest span or begins its own: a program that goes back and forth between two
conversations has the first one's tokens again in a later span, as context, which costs time and is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from turnwise.engine import Completion
from turnwise.records import Event, IntArray, Turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One request that was answered."""

    context_ids: IntArray  # [context] all that the policy saw
    completion: Completion  # what was sampled, cut behind a stop
    read: str  # what was new to the policy, as text
    wrote: str  # what was sampled, as text without special tokens
    seconds: float  # waited for the engine


@dataclass(frozen=True, kw_only=True, slots=True)
class Deed:
    """What the environment answered to one action of the program's."""

    after: int  # requests that had been answered by then
    is_valid: bool
    seconds: float  # the environment took
    events: tuple[Event, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


def turns_of(
    exchanges: Sequence[Exchange], deeds: Sequence[Deed] = (), info: Mapping[str, Any] | None = None
) -> tuple[Turn, ...]:
    """Return a turn for each exchange; `info` is what the environment said of its first observation.

    What a program does belongs to the reply before it; what it did before the first one belongs to the first, too.
    """
    turns: list[Turn] = []
    held: IntArray = np.zeros(0, np.int32)
    seen: Mapping[str, Any] = info or {}
    for number, exchange in enumerate(exchanges, start=1):
        extends = len(exchange.context_ids) > len(held) and np.array_equal(exchange.context_ids[: len(held)], held)
        own = [deed for deed in deeds if deed.after == number or (number == 1 and deed.after == 0)]
        turns.append(_turn(exchange, own, seen, exchange.context_ids[len(held) if extends else 0 :], not extends))
        held = np.concatenate([exchange.context_ids, exchange.completion.ids])
        seen = own[-1].info if own else seen
    return tuple(turns)


def _turn(exchange: Exchange, deeds: Sequence[Deed], seen: Mapping[str, Any], new: IntArray, is_new: bool) -> Turn:
    calls = [deed.info["call"] for deed in deeds if deed.info.get("call") is not None]
    return Turn(
        observation_ids=new,
        action_ids=exchange.completion.ids,
        logprobs=exchange.completion.logprobs,
        versions=exchange.completion.versions,
        starts_context=is_new,
        observation=exchange.read,
        action=exchange.wrote,
        call=calls[-1] if calls else None,
        is_valid=all(deed.is_valid for deed in deeds),
        events=tuple(event for deed in deeds for event in deed.events),
        state_key=seen.get("state_key"),
        belief_key=seen.get("belief_key"),
        generate_s=exchange.seconds,
        env_s=sum(deed.seconds for deed in deeds),
    )
