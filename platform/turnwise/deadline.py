"""Blocking code of other people, run before there are actors, with an end to our patience.

The preflight and the recording of demonstrations run environments through it; rollout workers have their own threads.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def each_within(limit_s: float, items: Iterable[Item], late: Callable[[], Exception]) -> Iterator[Item]:
    """Yield the items, made one by one in a daemon thread; raise `late()` if one takes longer than `limit_s` seconds.

    What making an item raises is raised here. A thread that is late cannot be killed: it is left behind.
    """
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue()
    wanted = threading.Semaphore(0)
    threading.Thread(target=_make, args=(items, made, wanted), name="patience", daemon=True).start()
    while True:
        wanted.release()
        try:
            item, error = made.get(timeout=limit_s)
        except queue.Empty:
            raise late() from None
        if isinstance(error, StopIteration):
            return
        if error is not None:
            raise error
        yield item  # type: ignore[misc]


def within(limit_s: float, function: Callable[[], Item], late: Callable[[], Exception]) -> Item:
    """Return what the function returns; raise `late()` if it takes longer than `limit_s` seconds."""
    return next(each_within(limit_s, (call() for call in (function,)), late))


def _make(
    items: Iterable[Item], made: queue.Queue[tuple[Item | None, BaseException | None]], wanted: threading.Semaphore
) -> None:
    iterator = iter(items)
    while wanted.acquire():
        try:
            made.put((next(iterator), None))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            made.put((None, error))
            return
