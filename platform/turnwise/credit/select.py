"""Selecting: what of a scored group is trained on, now or later, and how much each selection left out.

The stream calls `Selector.select` once a group, when its scores are there; what it returns is what a checkpoint holds,
so a resumed run does not select again. Pure: no counts are kept here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from turnwise.config.plugins import build_plugin
from turnwise.credit import Selection
from turnwise.credit.split import by_kind, joined_groups
from turnwise.records import Group


class SelectOptions(Protocol):
    """The part of the configuration that a `Selector` is made of (`CreditConfig`)."""

    channels: dict[str, float]
    select: list[Any]
    max_batches: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """What the selections made of one group."""

    group: Group | None  # what is left; None: nothing
    left_out: Mapping[str, int]  # episodes that will never be trained on, by the selection that said so
    last: str = ""  # the selection that left nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Selector:
    """All selections of a run, in order; without any it leaves groups as they are."""

    selections: Sequence[tuple[str, Selection]] = ()  # (name, selection)
    weights: Mapping[str, float] = field(default_factory=dict)  # credit.channels
    max_batches: int = 10  # batches' worth of groups that may be scored for one batch

    @classmethod
    def of(cls, config: SelectOptions) -> Selector:
        """Return the configured selections."""
        named = enumerate(config.select)
        selections = [(section["name"], _built(section, f"credit.select.{index}")) for index, section in named]
        return cls(selections=selections, weights=dict(config.channels), max_batches=config.max_batches)

    @property
    def delay(self) -> int:
        """Updates after which the rest of a batch is trained on; 0: there are no rests."""
        return max((int(getattr(selection, "delay", 0)) for _, selection in self.selections), default=0)

    def select(self, group: Group) -> Selected:
        """Return what is left of a scored group, and the number of episodes that each selection left out.

        Guided attempts and the others are selected apart: an episode is right or short beside its own kind.
        """
        found = [self._select(part) for part in by_kind(group)]
        counts: Counter[str] = sum((Counter(each.left_out) for each in found), Counter())
        left = [each.group for each in found if each.group is not None]
        return Selected(group=joined_groups(left), left_out=dict(counts), last="" if left else found[0].last)

    def _select(self, group: Group) -> Selected:
        left_out: dict[str, int] = {}
        for name, selection in self.selections:
            before, found = group.num_wanted, selection.select(group, self.weights)
            num_left = found.num_wanted if found is not None else 0
            if before > num_left:
                left_out[name] = left_out.get(name, 0) + before - num_left
            if found is None or num_left == 0:
                return Selected(group=None, left_out=left_out, last=name)
            group = found
        return Selected(group=group, left_out=left_out)


def with_members(group: Group, indices: set[int]) -> Group | None:
    """Return the group with these members and their scores only; None without any."""
    members = tuple(member for member in group.trajectories if member.index in indices)
    names = {member.trajectory_id for member in members}
    trained = None if group.trained is None else tuple(index for index in group.trained if index in indices)
    scores = tuple(score for score in group.scores if score.trajectory_id in names)
    return replace(group, trajectories=members, scores=scores, trained=trained) if members else None


def _built(section: dict[str, Any], field: str) -> Selection:
    found, options = build_plugin("select", section, field)
    selection: Selection = found(options)
    return selection
