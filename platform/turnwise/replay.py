"""The replay buffer: rests of groups that were trained on in part, until their compensation batch.

The stream puts in what a priority batch leaves (`Group.later`) and takes all of it, oldest first, after `delay`
batches. What the buffer holds is part of a checkpoint, beside the groups that nobody has taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from turnwise.records import Group


class ReplayBuffer:
    """Holds rests; with `delay` 0 there are none, but for those of a run that was resumed without its selection."""

    def __init__(self, delay: int, groups: Sequence[Group] = (), num_batches: int = 0) -> None:
        """`groups` and `num_batches` (put in since it was last empty) come from a checkpoint."""
        self._delay, self.groups, self.num_batches = delay, list(groups), num_batches

    def put(self, batch: Sequence[Group]) -> None:
        """Take the rests of a priority batch that is about to be trained on."""
        self.groups += [rest_of(group) for group in batch if group.later]
        self.num_batches += 1

    def take(self) -> list[Group]:
        """Return everything once the buffer is full, oldest first; else nothing."""
        if self.num_batches < self._delay:
            return []
        groups, self.groups, self.num_batches = self.groups, [], 0
        return groups

    def undo(self, batch: Sequence[Group]) -> None:
        """Be as before `put` or `take`, whichever gave out `batch`: nobody trained on it."""
        if any(group.is_rest for group in batch):
            self.groups, self.num_batches = [*batch, *self.groups], self._delay
            return
        ids = {group.group_id for group in batch}
        self.groups = [group for group in self.groups if group.group_id not in ids]
        self.num_batches -= 1


def rest_of(group: Group) -> Group:
    """Return the part of a group that is trained on later: the same episodes and scores, other ones in the loss."""
    return replace(group, trained=group.later, later=(), is_rest=True)


def batches_ahead(max_staleness: int, delay: int) -> int:
    """Return how many batches may run ahead so that rests are still fresh enough when their turn comes.

    A group begun `a` priority batches ahead waits for those, for the ceil(a / delay) compensation batches among them,
    and its rest for `delay` more updates.
    """
    if not delay:
        return max_staleness
    return max((a for a in range(max_staleness + 1) if a + -(-a // delay) + delay <= max_staleness), default=0)
