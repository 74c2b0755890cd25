"""Texts at which a reply stops, found in the tokens that were sampled."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from turnwise.agent import Dialogue
from turnwise.engine import Completion, Finish
from turnwise.records import IntArray


def cut(dialogue: Dialogue, completion: Completion, stops: Sequence[str]) -> tuple[Completion, str | None]:
    """Return the completion until the first of the stops, whose last token is the last one, and that stop.

    Nothing that was drawn later had a part in it: it is what a sampler that stops there would have drawn.
    """
    sizes = {stop: _size_until(dialogue, completion.ids, stop) for stop in stops}
    found = [(size, stop) for stop, size in sizes.items() if size is not None]
    if not found:
        return completion, None
    size, stop = min(found)
    kept = replace(
        completion,
        ids=completion.ids[:size],
        logprobs=completion.logprobs[:size],
        versions=completion.versions[:size],
        finish=Finish.STOP,
    )
    return kept, stop


def _size_until(dialogue: Dialogue, ids: IntArray, stop: str) -> int | None:
    """Return how many tokens it takes to spell a text that contains the stop; None if all of them do not."""
    if stop not in _text(dialogue, ids):
        return None
    return bisect_left(range(len(ids)), True, key=lambda size: stop in _text(dialogue, ids[:size]))


def texts_of(dialogue: Dialogue, ids: IntArray) -> tuple[str, ...]:
    """Return each token as text, as far as it is one by itself."""
    return tuple(_text(dialogue, ids[place : place + 1]) for place in range(len(ids)))


def _text(dialogue: Dialogue, ids: IntArray) -> str:
    return dialogue.fork().act(ids).text
