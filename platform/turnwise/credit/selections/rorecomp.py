"""RoRecomp: short right and long wrong episodes are trained on first, the others a little later, all of them once.

Rollout response recomposition (arXiv 2509.25958, from its abstract; algorithms.md 4.7). Of each group the

    floor(ratio c) shortest of the c right ones, floor(ratio w) longest of the w wrong ones, at least one of each

make the priority batch; the rest waits in a buffer. After `delay` priority batches the buffer is full: what it holds
is the next batch, oldest first, an update of its own (it counts in `learner.updates`; nothing is played for it).
The updates thus pull towards short right answers without any change of the rewards.

Ours: the split is made within each group, where lengths are comparable. Both parts carry the whole group, so both get
the advantages of the whole group (an estimator that normalises over the batch sees each part's batch). A rest that is
older than `rollout.max_staleness` when its turn comes is left out and counted. So that this is rare, fewer groups are
begun ahead; hence `rollout.max_staleness` must be at least `delay`. Episodes without a known outcome are part of the
rest; a group of such only is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from turnwise.config.schema import key
from turnwise.credit import SelectionSettings
from turnwise.credit.verdicts import check_channel, verdicts
from turnwise.errors import UserError
from turnwise.records import Group, Trajectory


@dataclass
class RorecompConfig:
    """Options of `rorecomp`."""

    ratio: float = key(0.5, "share of the right and of the wrong ones that comes first", above=0, below=1)
    length: str = key("turns", "what is short or long: turns, or the policy's tokens", one_of=("turns", "tokens"))
    delay: int = key(1, "priority batches that fill the buffer; at most rollout.max_staleness", at_least=1)
    outcome: str = key("outcome", "the channel whose sum says which episodes are right")
    threshold: float = key(0.5, "right if that sum exceeds it")


class Rorecomp:
    """The selection `rorecomp`."""

    Config = RorecompConfig

    def __init__(self, config: RorecompConfig) -> None:
        """Take the options as they are; the configuration has checked them."""
        self.config, self.delay = config, config.delay

    def check(self, field: str, settings: SelectionSettings) -> None:
        """Raise UserError for an unknown channel, a rest that would always be too old, or another selection behind."""
        check_channel(f"{field}.outcome", self.config.outcome, settings)
        if settings.max_staleness < self.delay:
            problem = f"rests wait so many updates, and rollout.max_staleness={settings.max_staleness} forbids it"
            raise UserError(f"{field}.delay", self.delay, problem, f"set rollout.max_staleness={self.delay} or more")
        if not settings.is_last:
            raise UserError(f"{field}.name", "rorecomp", "divides what the others leave", "name it last")

    def select(self, group: Group, weights: Mapping[str, float]) -> Group | None:
        """Return the group with its priority part to be trained now and its rest later."""
        right = verdicts(group, self.config.outcome, self.config.threshold)
        members = sorted(group.trained_now, key=lambda member: member.index)
        shortest = sorted((m for m in members if right[m.index] is True), key=self._length)
        longest = sorted((m for m in members if right[m.index] is False), key=lambda member: -self._length(member))
        first = {m.index for part in (shortest, longest) for m in part[: self._num_first(len(part))]}
        if not first:
            return None
        later = tuple(m.index for m in members if m.index not in first)
        return replace(group, trained=tuple(sorted(first)), later=later)

    def _num_first(self, count: int) -> int:
        return max(1, int(self.config.ratio * count + 1e-9))

    def _length(self, member: Trajectory) -> int:
        return len(member.turns) if self.config.length == "turns" else member.num_action_tokens
