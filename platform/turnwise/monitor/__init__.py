"""The monitor: what a run tells people, in files, in the terminal and in Ray's metrics.

The controller feeds it on the driver: `MetricsLog` one mapping an update, `Progress` a `Snapshot` whenever something
moved, `StageClock` around every stage, and at the end `summarise` and `draw_curve`. Nothing here decides anything, and
no fault of a display or of a service ends a run.
"""

from turnwise.monitor.metrics import MetricsLog, Sink
from turnwise.monitor.progress import Progress, Snapshot
from turnwise.monitor.timing import StageClock

__all__ = ["MetricsLog", "Progress", "Sink", "Snapshot", "StageClock"]
