"""Items and answers of blocking code within a limit; the thread works no further than it is asked to."""

import threading
import time

import pytest

from turnwise.deadline import each_within, within


def late():
    return RuntimeError("late")


def test_items_come_in_order_and_no_earlier_than_they_are_wanted():
    made = []

    def numbers():
        for number in range(5):
            made.append(number)
            yield number

    taken = each_within(5.0, numbers(), late)
    assert [next(taken), next(taken)] == [0, 1]
    time.sleep(0.05)
    assert made == [0, 1]
    assert list(taken) == [2, 3, 4]


def test_one_that_hangs_is_given_up():
    release = threading.Event()

    def items():
        yield 1
        release.wait()
        yield 2

    found, began = [], time.monotonic()
    with pytest.raises(RuntimeError, match="late"):
        found.extend(each_within(0.1, items(), late))
    release.set()
    assert time.monotonic() - began < 3


def test_what_is_raised_there_is_raised_here():
    def items():
        yield 1
        raise KeyError("broken")

    taken = each_within(5.0, items(), late)
    assert next(taken) == 1
    with pytest.raises(KeyError, match="broken"):
        next(taken)


def test_one_answer():
    assert within(5.0, lambda: 42, late) == 42
    with pytest.raises(RuntimeError, match="late"):
        within(0.05, lambda: time.sleep(2), late)
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 / 0, late)
