"""Overlong filtering: episodes that a limit cut off are not trained on.

DAPO (arXiv 2503.14476; algorithms.md 3.10). Overlong is an episode that ended truncated, or one in which the policy
itself wrote more than `max_policy_tokens` tokens: what it read does not count, unlike in the released code.

With `statistics` the overlong ones stay in their group's baseline (as released: only their loss is masked); without,
the baseline is that of the others. Either way the policy does not learn that being cut off is bad, and since what
leaves is not independent of how it acted, the gradient is that of the episodes that end in time, not of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from turnwise.config.schema import key
from turnwise.credit import SelectionSettings
from turnwise.credit.select import with_members
from turnwise.errors import UserError
from turnwise.records import End, Group, Trajectory


@dataclass
class OverlongConfig:
    """Options of `overlong`."""

    truncated: bool = key(True, "leave out episodes that a limit on turns or context cut off")
    max_policy_tokens: int | None = key(
        None, "leave out episodes in which the policy wrote more; null: no limit", at_least=1
    )
    statistics: bool = key(True, "whether they still count in their group's baseline")


class Overlong:
    """The selection `overlong`."""

    Config = OverlongConfig

    def __init__(self, config: OverlongConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config = config

    def check(self, field: str, settings: SelectionSettings) -> None:
        """Raise UserError if nothing would ever be overlong."""
        if not self.config.truncated and self.config.max_policy_tokens is None:
            remedy = f"set {field}.max_policy_tokens, or remove the selection"
            raise UserError(f"{field}.truncated", "false", "nothing would be left out", remedy)

    def select(self, group: Group, weights: Mapping[str, float]) -> Group | None:
        """Return the group without its overlong members, or with them untrained."""
        fitting = {member.index for member in group.trajectories if not self._is_overlong(member)}
        if not self.config.statistics:
            return with_members(group, fitting)
        return replace(group, trained=tuple(t.index for t in group.trained_now if t.index in fitting))

    def _is_overlong(self, member: Trajectory) -> bool:
        limit = self.config.max_policy_tokens
        is_cut_off = self.config.truncated and member.end is End.TRUNCATED
        return is_cut_off or (limit is not None and member.num_action_tokens > limit)
