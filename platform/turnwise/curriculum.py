"""Curriculum: a pool of tasks that is gone through again and again, from easy to hard by the success seen so far.

The stream asks it for the task of a group number and tells it of every scored group, before anything is selected. The
first time through, the pool's tasks come in the order of the `TaskSet`; each later time by falling success rate of
their latest group (the share of its episodes whose success is known that succeeded), ties in the pool's order, tasks
that were never measured last. The order of a pass is fixed when its first group is begun, from what was known when the
last batch was taken, so that in a synchronous run it depends on the seed only. All of it is part of the stream's state.
"""

from __future__ import annotations

from typing import Any

from turnwise.credit.split import unguided
from turnwise.credit.verdicts import verdicts
from turnwise.errors import UserError
from turnwise.records import Group, Task
from turnwise.tasks import TaskSet


class Curriculum:
    """Tasks by group number, like a `TaskSet`."""

    def __init__(self, tasks: TaskSet, pool: int, state: dict[str, Any], *, success: tuple[str, float]) -> None:
        """`state` is plain JSON, changed in place; `success` is a channel and its threshold. UserError: too few tasks.

        Its entries: `rates` and `fresh`, success by place in the pool, known at the last batch and since; `orders`, the
        pool's places in the order of each pass that may still be asked for.
        """
        if tasks.num_tasks is not None and pool > tasks.num_tasks:
            problem = f"{tasks.env_id} has {tasks.num_tasks} training tasks"
            raise UserError("rollout.curriculum", pool, problem, f"use at most {tasks.num_tasks}")
        self._tasks, self._pool, self._success = tasks, pool, success
        for name in ("rates", "fresh", "orders"):
            state.setdefault(name, {})
        self._state = state

    def task(self, number: int) -> Task:
        """Return the task of group `number`; passes are begun in order."""
        return self._tasks.task(self._place(number))

    def record(self, group: Group) -> None:
        """Note the success of a scored group's first attempts; one without any known success changes nothing."""
        known = [is_right for is_right in verdicts(unguided(group), *self._success).values() if is_right is not None]
        if known:
            self._state["fresh"][str(self._place(int(group.group_id)))] = sum(known) / len(known)

    def settle(self, first_open: int) -> None:
        """A batch was taken: later passes go by all that was recorded; groups before `first_open` are finished."""
        self._state["rates"].update(self._state["fresh"])
        self._state["fresh"].clear()
        for done in [name for name in self._state["orders"] if int(name) < first_open // self._pool]:
            del self._state["orders"][done]

    def metrics(self) -> dict[str, float]:
        """Return the number of measured tasks and their mean success; only the number without any."""
        rates = self._state["rates"]
        mean = {"curriculum/success": sum(rates.values()) / len(rates)} if rates else {}
        return {"curriculum/measured_tasks": float(len(rates)), **mean}

    def _place(self, number: int) -> int:
        """Return the place in the pool of group `number`'s task."""
        lap, step = divmod(number, self._pool)
        orders = self._state["orders"]
        if str(lap) not in orders:
            orders[str(lap)] = self._ordered()
        return int(orders[str(lap)][step])

    def _ordered(self) -> list[int]:
        rates = self._state["rates"]
        return sorted(range(self._pool), key=lambda place: (-rates.get(str(place), -1.0), place))
