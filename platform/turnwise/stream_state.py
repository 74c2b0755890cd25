"""What of the stream outlives a process: with it and the groups that wait, a resumed run goes on exactly."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class StreamState:
    """What has to be remembered to go on exactly."""

    next_group: int = 0  # number of the next group to be started
    unfinished: list[int] = field(default_factory=list)  # started and not ready: to be started again after a resume
    num_dropped: int = 0  # groups that were left out for too few complete episodes
    num_stale: int = 0  # groups that were left out for being older than allowed
    num_kept: int = 0  # episodes that the selections passed
    left_out: dict[str, int] = field(default_factory=dict)  # episodes that are never trained on, by selection
    num_waiting_batches: int = 0  # priority batches since the last compensation batch
    curriculum: dict[str, Any] = field(default_factory=dict)  # see `Curriculum`

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON."""
        return asdict(self)
