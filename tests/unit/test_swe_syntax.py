"""Threads may read Python at the same time."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from turnwise_envs.swe.syntax import parse

SOURCE = "def f(a):\n" + "    a = (a + 1) * [b for b in a]\n" * 60


@pytest.fixture
def collections_give_way() -> Iterator[None]:
    """Let other threads run whenever garbage is collected, and collect often: what a worker does now and then."""

    def give_way(*_: object) -> None:
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.callbacks.append(give_way)
    gc.set_threshold(20)
    yield
    gc.set_threshold(*threshold)
    gc.callbacks.remove(give_way)


@pytest.mark.usefixtures("collections_give_way")
def test_no_thread_disturbs_another_one() -> None:
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(60):
                parse(SOURCE)
        except SystemError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_what_is_no_python_is_a_syntax_error() -> None:
    with pytest.raises(SyntaxError):
        parse("def f(:")
