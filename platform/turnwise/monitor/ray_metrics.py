"""Metrics through Ray: what its dashboard, Prometheus and Grafana show. A sink of `MetricsLog`, on the driver.

Ray drops names with `/` or `.`, so `reward/mean` is published as `turnwise_reward_mean` (Ray itself puts `ray_` in
front). Failures are one counter, `turnwise_failures`, by cause. Values reach the endpoint after Ray's report interval.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from turnwise.monitor.names import FAILURES


class RaySink:
    """Gauges for all metrics, a counter for failures; each tagged with the run's name."""

    def __init__(self, run: str) -> None:
        """Publish under the tag `run`; Ray must be connected by the first `write`."""
        self._run = run
        self._gauges: dict[str, Gauge] = {}
        self._failures: Counter | None = None

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Set every gauge, and add to the counters what failed since the previous update."""
        self._gauge("update").set(update)
        for name, value in metrics.items():
            if name.startswith(FAILURES):
                self._count(name.removeprefix(FAILURES), value)
            else:
                self._gauge(name).set(value)

    def close(self) -> None:
        """Nothing to do: Ray forgets the values with the driver."""

    def _gauge(self, name: str) -> Gauge:
        published = metric_name(name)
        if published not in self._gauges:
            gauge = Gauge(published, description=f"Turnwise: {name}", tag_keys=("run",))
            gauge.set_default_tags({"run": self._run})
            self._gauges[published] = gauge
        return self._gauges[published]

    def _count(self, cause: str, value: float) -> None:
        if self._failures is None:
            self._failures = Counter("turnwise_failures", "Turnwise: failures by cause", tag_keys=("run", "cause"))
        if value > 0:
            self._failures.inc(value, tags={"run": self._run, "cause": cause})


def metric_name(name: str) -> str:
    """Return the name under which Ray publishes a metric: letters, digits and underscores."""
    return f"turnwise_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_').lower()}"
