import re
import time
import urllib.request

import pytest
import ray

from turnwise.monitor import MetricsLog
from turnwise.monitor.ray_metrics import RaySink, metric_name

DEADLINE_S = 60


@pytest.fixture(scope="module")
def endpoint():
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
    (node,) = ray.nodes()
    yield f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    ray.shutdown()


def scrape(endpoint, wanted):
    """Return the lines that hold `wanted` as soon as there are some; the agent may need a while to start."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(endpoint, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        found = [line for line in text.splitlines() if re.search(wanted, line) and not line.startswith("#")]
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{wanted} did not appear within {DEADLINE_S} s")


def test_rays_endpoint_serves_our_gauges_and_failures_by_cause(endpoint, tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl", [RaySink("run-7")]) as log:
        log.log(1, {"reward/mean": -0.25, "failures/env:step": 2})
        log.log(2, {"reward/mean": -0.5, "failures/env:step": 3, "failures/infra:worker": 0})
        (reward,) = scrape(endpoint, r"ray_turnwise_reward_mean\{.*run=.run-7.*-0\.5$")
        (failures,) = scrape(endpoint, r"ray_turnwise_failures(_total)?\{.* 5(\.0)?$")
        (update,) = scrape(endpoint, r"ray_turnwise_update\{")
    assert 'run="run-7"' in reward
    assert 'cause="env:step"' in failures
    assert update.endswith(" 2.0")


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("reward/mean", "turnwise_reward_mean"),
        ("timing_s/rollout", "turnwise_timing_s_rollout"),
        ("a.b:c-", "turnwise_a_b_c"),
    ],
)
def test_names_hold_only_what_ray_accepts(name, published):
    assert metric_name(name) == published
